//! The clock that asks for photos again and again, of every camera.
//!
//! They are taken on a grid of times, so that neither a slow disk nor a camera that is gone for a
//! while makes them drift; what cannot be taken is skipped.

use std::time::{Duration, Instant, SystemTime};

use crate::http::Now;

/// Interval photos that are being taken.
#[derive(Clone, Debug)]
pub struct Interval {
    pub every: Duration,
    /// When the next one is due, and when it is over.
    next: Instant,
    end: Option<Instant>,
    pub saved: u64,
    pub skipped: u64,
    /// Why a camera's last one was skipped, by camera; none if it was saved: at most `CAMERAS_MAX`.
    troubles: Vec<Option<String>>,
}

#[derive(Debug)]
pub struct Intervalometer {
    cameras: usize,
    interval: Option<Interval>,
}

impl Intervalometer {
    /// With interval photos from the start on, if `every` is given.
    pub fn new(cameras: usize, every: Option<Duration>, now: Now) -> Intervalometer {
        let mut intervalometer = Intervalometer { cameras, interval: None };
        if let Some(every) = every {
            intervalometer.start(every, None, now);
        }
        intervalometer
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let interval = self.interval.as_ref()?;
        interval.end.into_iter().chain([interval.next]).min()
    }

    pub fn interval(&self) -> Option<&Interval> {
        self.interval.as_ref()
    }

    /// Take interval photos from now on, for so long or until they are stopped.
    pub fn start(&mut self, every: Duration, length: Option<Duration>, now: Now) {
        log::info!("interval photos: one every {} s", every.as_secs_f64());
        self.interval = Some(Interval {
            every,
            next: now.instant,
            end: length.map(|length| now.instant + length),
            saved: 0,
            skipped: 0,
            troubles: vec![None; self.cameras],
        });
    }

    pub fn stop(&mut self) {
        if let Some(Interval { saved, skipped, .. }) = self.interval.take() {
            log::info!("interval photos: over; {saved} saved, {skipped} skipped");
        }
    }

    /// Whether the time that was asked for is over.
    pub fn is_over(&self, now: Instant) -> bool {
        let end = self.interval.as_ref().and_then(|interval| interval.end);
        end.is_some_and(|end| end <= now)
    }

    /// Whether interval photos are to be taken now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let cameras = self.cameras as u64;
        self.interval.as_mut().is_some_and(|interval| interval.strike(now, cameras))
    }

    /// A camera's last photo has no frame yet. If there is trouble, that one will tell.
    pub fn skip(&mut self) {
        self.interval.iter_mut().for_each(|interval| interval.skipped += 1);
    }

    /// What became of a camera's photo.
    pub fn note(&mut self, camera: usize, outcome: Result<(), &str>) {
        let Some(interval) = &mut self.interval else { return };
        let Some(trouble) = interval.troubles.get_mut(camera) else { return };
        let whose = match self.cameras {
            1 => String::new(),
            _ => format!(" of camera {}", camera + 1),
        };
        match outcome {
            Ok(()) => {
                interval.saved += 1;
                if trouble.take().is_some() {
                    let skipped = interval.skipped;
                    log::info!("interval photos{whose}: they go on; {skipped} skipped so far");
                }
            }
            Err(reason) => {
                interval.skipped += 1;
                if trouble.as_deref() != Some(reason) {
                    log::warn!("interval photo{whose} skipped: {reason}");
                    *trouble = Some(reason.to_owned());
                }
            }
        }
    }
}

impl Interval {
    /// When it is over, by the clock on the wall as it is now.
    pub fn until(&self, now: Now) -> Option<SystemTime> {
        now.wall.checked_add(self.end?.saturating_duration_since(now.instant))
    }

    /// Why the last one was skipped, of the first camera of which it was.
    pub fn trouble(&self) -> Option<&str> {
        self.troubles.iter().flatten().map(String::as_str).next()
    }

    /// Whether a time of the grid has come; times that were missed are skipped.
    fn strike(&mut self, now: Instant, cameras: u64) -> bool {
        if now < self.next {
            return false;
        }
        let missed = (now - self.next).as_nanos() / self.every.as_nanos().max(1);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.skipped += u64::from(missed) * cameras;
        self.next += self.every.saturating_mul(missed) + self.every;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instant: Instant) -> Now {
        Now { instant, wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn interval_photos_keep_to_their_grid() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = Intervalometer::new(1, None, at(start));
        clock.start(10 * second, Some(100 * second), at(start));
        // Always late, by up to nine seconds, and once by more than a whole interval.
        let looks = [0, 1, 19, 20, 21, 52, 60, 69, 70, 71, 99];
        let taken: Vec<u32> =
            looks.into_iter().filter(|s| clock.is_due(start + second * *s)).collect();
        assert_eq!(taken, [0, 19, 20, 52, 60, 70, 99]);
        assert!(!clock.is_over(start + 99 * second));
        assert!(clock.is_over(start + 100 * second));
    }

    #[test]
    fn what_is_missed_is_counted_and_said_once() {
        let start = Instant::now();
        let every = Duration::from_secs(1);
        let mut clock = Intervalometer::new(1, Some(every), at(start));
        assert!(clock.is_due(start + Duration::from_secs(5)));
        assert_eq!(clock.interval().unwrap().skipped, 5);
        clock.note(0, Err("no camera"));
        clock.note(0, Err("no camera"));
        assert_eq!(clock.interval().unwrap().trouble(), Some("no camera"));
        clock.note(0, Ok(()));
        let interval = clock.interval().unwrap();
        assert_eq!((interval.saved, interval.skipped, interval.trouble()), (1, 7, None));
    }

    #[test]
    fn each_camera_has_its_own_trouble() {
        let start = Instant::now();
        let mut clock = Intervalometer::new(2, Some(Duration::from_secs(1)), at(start));
        assert!(clock.is_due(start + Duration::from_secs(3)));
        assert_eq!(clock.interval().unwrap().skipped, 6, "three times two");
        clock.note(1, Err("the second is gone"));
        clock.note(0, Ok(()));
        let interval = clock.interval().unwrap();
        assert_eq!((interval.saved, interval.trouble()), (1, Some("the second is gone")));
        clock.note(1, Ok(()));
        assert_eq!(clock.interval().unwrap().trouble(), None);
    }
}
