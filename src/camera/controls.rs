//! The camera's controls, by the camera's thread, which alone has the device: told, set, reset, and
//! set again after each start.
//!
//! Orders come by the slot and are done between two frames. When nobody watches, the device is
//! opened for the moment and does not stream: controls belong to the device, not to the stream.
//!
//! What somebody has set is kept by the camera's name and place. Whenever the camera is opened it
//! is compared with what that has, and set again where they differ. After each start of the stream
//! it is set in any case: some cameras forget then, and uvcvideo, which remembers, does not know.
//! So it does not matter what a camera forgets, and when.

use std::io;
use std::time::Instant;

use super::v4l2::Device;
use super::{Identity, Operator, Run};
use crate::config::Camera;
use crate::control::{
    Control, Deed, Kind, Listing, Order, Refusal, Setting, Settings, Told, Value, excerpt,
    is_switch, switch_of,
};
use crate::error::Reason;

// ---- when -----------------------------------------------------------------------------------

impl Operator {
    /// Do what is wanted of a camera that streams. What that takes is no pause of the camera's.
    pub(super) fn obey_streaming(&mut self, run: &mut Run) {
        let Some(order) = self.slot.take_order(Instant::now()) else { return };
        let begun = Instant::now();
        let told = self.obey(run.capture.device(), &order.deed);
        self.tell(&order, told);
        run.last_frame += begun.elapsed();
    }

    /// Do what is wanted while nobody watches.
    pub(super) fn obey_idle(&mut self) {
        if !matches!(self.camera, Camera::Auto | Camera::Device(_)) {
            return self.obey_without_device();
        }
        let Some(order) = self.slot.take_order(Instant::now()) else { return };
        let told = match self.find() {
            Ok(device) => {
                self.restore(&device);
                self.obey(&device, &order.deed)
            }
            Err(_) if self.camera == Camera::Auto && self.known.is_none() => {
                self.without_device(&order.deed)
            }
            Err(error) => Err(absent(&self.explain(&error))),
        };
        self.tell(&order, told);
    }

    /// Do what is wanted while the pictures are no device's.
    pub(super) fn obey_without_device(&self) {
        while let Some(order) = self.slot.take_order(Instant::now()) {
            let told = self.without_device(&order.deed);
            self.tell(&order, told);
        }
    }

    /// Say to all who want something that the camera is gone.
    pub(super) fn deny(&self, reason: &str) {
        while let Some(order) = self.slot.take_order(Instant::now()) {
            self.tell(&order, Err(absent(reason)));
        }
    }

    fn tell(&self, order: &Order, told: Told) {
        self.slot.tell(order.number, told);
        self.wake();
    }

    fn without_device(&self, deed: &Deed) -> Told {
        let reason = match self.camera {
            Camera::Auto | Camera::Test => "The test picture has no controls.",
            _ => "This source of pictures has no controls.",
        };
        match deed {
            Deed::Set { id, .. } | Deed::Reset(Some(id)) => Err(no_such(*id)),
            Deed::List | Deed::Reset(None) => {
                Ok(Listing { reason: Some(reason.to_owned()), ..Listing::default() })
            }
        }
    }
}

// ---- what -----------------------------------------------------------------------------------

impl Operator {
    fn obey(&mut self, device: &Device, deed: &Deed) -> Told {
        match deed {
            Deed::List => {}
            Deed::Set { id, value } => self.set(device, *id, value)?,
            Deed::Reset(Some(id)) => self.reset(device, *id)?,
            Deed::Reset(None) => self.reset_all(device)?,
        }
        let mut controls = device.controls().map_err(silent)?;
        let kept = self.kept.of(&key(device));
        controls.iter_mut().for_each(|control| control.kept = kept.contains_key(&control.id));
        let reason = "This camera has no controls.".to_owned();
        Ok(Listing {
            camera: Some(device.to_string()),
            reason: controls.is_empty().then_some(reason),
            controls,
        })
    }

    fn set(&mut self, device: &Device, id: u32, sent: &str) -> Result<(), Refusal> {
        let control = find(device, id)?;
        let value = control.understand(sent)?;
        change(device, &control, &value)?;
        log::debug!("{}: {} set to {}", self.label, control.name, control.in_words(&value));
        if control.kind != Kind::Button {
            // As the driver has rounded it, if it tells.
            let now = device.control(id).ok().flatten().and_then(|control| control.value);
            let setting = Setting { name: control.name, value: now.unwrap_or(value) };
            self.keep(device, id, Some(setting));
        }
        Ok(())
    }

    fn reset(&mut self, device: &Device, id: u32) -> Result<(), Refusal> {
        let control = find(device, id)?;
        let Some(value) = control.default.clone() else {
            let sentence = format!("The control {} has no value to go back to.", control.name);
            return Err(Refusal::Denied(sentence));
        };
        change(device, &control, &value)?;
        log::debug!("{}: {} reset to {}", self.label, control.name, control.in_words(&value));
        self.keep(device, id, None);
        Ok(())
    }

    fn reset_all(&mut self, device: &Device) -> Result<(), Refusal> {
        let controls = device.controls().map_err(silent)?;
        let default = |control: Control| Some((control.id, control.default?));
        let settable = controls.into_iter().filter(|control| !control.read_only);
        let failed = bring_about(device, settable.filter_map(default).collect(), false);
        log::info!("{}: its controls are reset", self.label);
        for sentence in failed {
            log::warn!("{}: {sentence}", self.label);
        }
        let key = key(device);
        if !self.kept.of(&key).is_empty() {
            self.kept.put(&key, Settings::new());
            self.slot.keep(&key, Settings::new());
        }
        Ok(())
    }

    /// Remember what a control is set to, or that it is as by default.
    fn keep(&mut self, device: &Device, id: u32, setting: Option<Setting>) {
        let key = key(device);
        let before = self.kept.of(&key);
        let mut settings = before.clone();
        match setting {
            Some(setting) => settings.insert(id, setting),
            None => settings.remove(&id),
        };
        if settings != before {
            self.kept.put(&key, settings.clone());
            self.slot.keep(&key, settings);
        }
    }

    /// Set again what somebody has set before and what is not so now.
    pub(super) fn restore(&self, device: &Device) {
        for sentence in bring_about(device, self.wanted(device), false) {
            log::debug!("{}: not as it was set: {sentence}", self.label);
        }
    }

    /// Set again what somebody has set before, of a camera whose stream has just started. What
    /// cannot be is said once.
    pub(super) fn restore_streaming(&mut self, device: &Device) {
        let failed = bring_about(device, self.wanted(device), true);
        for sentence in failed.iter().filter(|sentence| !self.unset.contains(sentence)) {
            log::warn!("{}: not as it was set: {sentence}", self.label);
        }
        self.unset = failed;
    }

    /// What somebody has set of this camera, by the control's id.
    fn wanted(&self, device: &Device) -> Vec<(u32, Value)> {
        let settings = self.kept.of(&key(device));
        settings.into_iter().map(|(id, setting)| (id, setting.value)).collect()
    }
}

/// What a camera's settings are kept by: two of a kind are told apart by where they are plugged in.
fn key(device: &Device) -> String {
    let Identity { bus, card } = Identity::of(device);
    format!("{card} at {bus}")
}

/// Set many controls, `anew` also those that are so already; the sentences of those that the camera
/// does not let be set.
///
/// Switches (automatic or not) decide about others. Those others come first, while they can still
/// be set, then the switches, then once more what could not be set before and can now. What stays
/// inactive has no effect in any case.
fn bring_about(device: &Device, mut wanted: Vec<(u32, Value)>, anew: bool) -> Vec<String> {
    let switches: Vec<_> = wanted.extract_if(.., |(id, _)| is_switch(*id)).collect();
    wanted.extend(switches);
    wanted.retain(|(id, value)| !matches!(ensure(device, *id, value, anew), Ok(true)));
    let failed = wanted.iter().filter_map(|(id, value)| ensure(device, *id, value, anew).err());
    failed.map(|refusal| refusal.sentence().to_owned()).collect()
}

/// Have a control set to a value; whether it is, or else is inactive.
fn ensure(device: &Device, id: u32, value: &Value, anew: bool) -> Result<bool, Refusal> {
    let control = find(device, id)?;
    if !anew && control.value.as_ref() == Some(value) {
        return Ok(true);
    }
    if control.inactive {
        return Ok(false);
    }
    let value = control.understand(&value.to_string())?;
    change(device, &control, &value).map(|()| true)
}

fn find(device: &Device, id: u32) -> Result<Control, Refusal> {
    device.control(id).map_err(silent)?.ok_or_else(|| no_such(id))
}

/// Set a control that the device has to a value that it understands.
fn change(device: &Device, control: &Control, value: &Value) -> Result<(), Refusal> {
    control.check_settable().map_err(|refusal| named(device, control, refusal))?;
    device.set_control(control, value).map_err(|error| refused(device, control, value, &error))
}

// ---- why not --------------------------------------------------------------------------------

fn no_such(id: u32) -> Refusal {
    Refusal::Absent(format!("The camera has no control {id}."))
}

fn absent(reason: &str) -> Refusal {
    Refusal::Failed(format!("The camera is not there: {reason}."))
}

/// The device does not even describe a control.
fn silent(error: io::Error) -> Refusal {
    Refusal::Failed(format!("The camera does not tell its controls: {}.", Reason(&error)))
}

/// Why a control cannot be set: if another one decides about it, which one.
fn named(device: &Device, control: &Control, refusal: Refusal) -> Refusal {
    let switch = switch_of(control.id).filter(|_| control.inactive);
    let switch = switch.and_then(|id| device.control(id).ok().flatten());
    let Some((switch, value)) = switch.and_then(|s| s.value.clone().map(|value| (s, value))) else {
        return refusal;
    };
    let (name, by, value) = (&control.name, &switch.name, switch.in_words(&value));
    Refusal::Denied(format!(
        "The control {name} is inactive as long as {by} is {value}: change that first."
    ))
}

/// Why the driver did not set a control.
fn refused(device: &Device, control: &Control, value: &Value, error: &io::Error) -> Refusal {
    // EINVAL is also said of a control that has gone.
    if let Ok(None) = device.control(control.id) {
        return no_such(control.id);
    }
    let name = &control.name;
    let value = control.in_words(value);
    let value = excerpt(&value);
    let reason = match error.raw_os_error() {
        Some(libc::EINVAL | libc::ERANGE) => "it does not take this value",
        // The camera's "wrong state": EILSEQ from older uvcvideo.
        Some(libc::EACCES | libc::EPERM | libc::EILSEQ) => "it does not allow that now",
        Some(libc::EBUSY) => "it is busy",
        _ => {
            let reason = Reason(error);
            return Refusal::Failed(format!(
                "The camera failed to set {name} to {value}: {reason}."
            ));
        }
    };
    Refusal::Denied(format!("The camera refuses to set {name} to {value}: {reason}."))
}
