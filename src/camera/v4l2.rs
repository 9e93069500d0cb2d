//! A video device behind three calls, open, start, next frame, and its controls. The only home of
//! the v4l crate.
//!
//! The crate gives structures and request numbers; the buffer queue is ours, because its stream
//! returns EINVAL for ever after one time-out, hides flagged buffers and panics on drop. Device
//! calls go through libc's `open`, `ioctl`, `mmap` and `poll`, so that a preloaded camera and
//! libcamera's compatibility layer see them. Terms: Linux Media Userspace API, part V4L2.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use v4l::v4l_sys as sys;
use v4l::v4l2::vidioc;

use crate::control::{Choice, Control, Kind, Value};
use crate::error::{Error, Result};
use crate::jpeg::Layout;
use crate::limits::{
    BUFFERS, BUFFERS_MAX, CONTROL_TEXT_BYTES_MAX, CONTROLS_MAX, ENUMERATION_MAX, FRAME_TIME_MAX,
    MENU_MAX, NODES_MAX, PIXELS_MAX, SIDE_PIXELS_MAX, SIDE_PIXELS_MIN,
};

// ---- requests -------------------------------------------------------------------------------

/// An ioctl's number together with the structure that it takes.
struct Call<T> {
    number: vidioc::_IOC_TYPE,
    argument: PhantomData<T>,
}

impl<T> Call<T> {
    /// Refuses, when compiled, a number that is not made for a structure of `T`'s size.
    const fn new(number: vidioc::_IOC_TYPE) -> Call<T> {
        assert!((number >> 16) as usize & 0x3fff == size_of::<T>());
        Call { number, argument: PhantomData }
    }
}

const QUERYCAP: Call<sys::v4l2_capability> = Call::new(vidioc::VIDIOC_QUERYCAP);
const ENUM_FMT: Call<sys::v4l2_fmtdesc> = Call::new(vidioc::VIDIOC_ENUM_FMT);
const ENUM_FRAMESIZES: Call<sys::v4l2_frmsizeenum> = Call::new(vidioc::VIDIOC_ENUM_FRAMESIZES);
const ENUM_FRAMEINTERVALS: Call<sys::v4l2_frmivalenum> =
    Call::new(vidioc::VIDIOC_ENUM_FRAMEINTERVALS);
const S_FMT: Call<sys::v4l2_format> = Call::new(vidioc::VIDIOC_S_FMT);
const G_PARM: Call<sys::v4l2_streamparm> = Call::new(vidioc::VIDIOC_G_PARM);
const S_PARM: Call<sys::v4l2_streamparm> = Call::new(vidioc::VIDIOC_S_PARM);
const REQBUFS: Call<sys::v4l2_requestbuffers> = Call::new(vidioc::VIDIOC_REQBUFS);
const QUERYBUF: Call<sys::v4l2_buffer> = Call::new(vidioc::VIDIOC_QUERYBUF);
const QBUF: Call<sys::v4l2_buffer> = Call::new(vidioc::VIDIOC_QBUF);
const DQBUF: Call<sys::v4l2_buffer> = Call::new(vidioc::VIDIOC_DQBUF);
const QUERY_EXT_CTRL: Call<sys::v4l2_query_ext_ctrl> = Call::new(vidioc::VIDIOC_QUERY_EXT_CTRL);
const QUERYMENU: Call<sys::v4l2_querymenu> = Call::new(vidioc::VIDIOC_QUERYMENU);
const G_EXT_CTRLS: Call<sys::v4l2_ext_controls> = Call::new(vidioc::VIDIOC_G_EXT_CTRLS);
const S_EXT_CTRLS: Call<sys::v4l2_ext_controls> = Call::new(vidioc::VIDIOC_S_EXT_CTRLS);
const STREAMON: Call<libc::c_int> = Call::new(vidioc::VIDIOC_STREAMON);
const STREAMOFF: Call<libc::c_int> = Call::new(vidioc::VIDIOC_STREAMOFF);

/// The kernel's layout where it depends on the machine (linux/videodev2.h): sizes of a buffer and a
/// format, where a buffer's time and place stand, and two numbers; then of controls' structures, of
/// which two are packed. `Call::new` alone would believe structures that were generated for another
/// machine.
const _: () = {
    #[cfg(target_pointer_width = "64")]
    const LAYOUT: [usize; 6] = [88, 208, 24, 64, 0xc058_5611, 0xc0d0_5605];
    #[cfg(all(target_pointer_width = "32", not(target_env = "musl")))]
    const LAYOUT: [usize; 6] = [68, 204, 20, 52, 0xc044_5611, 0xc0cc_5605];
    // Seconds have 64 bits there.
    #[cfg(all(target_pointer_width = "32", target_env = "musl"))]
    const LAYOUT: [usize; 6] = [80, 204, 24, 64, 0xc050_5611, 0xc0cc_5605];
    assert!(size_of::<sys::v4l2_buffer>() == LAYOUT[0]);
    assert!(size_of::<sys::v4l2_format>() == LAYOUT[1]);
    assert!(offset_of!(sys::v4l2_buffer, timestamp) == LAYOUT[2]);
    assert!(offset_of!(sys::v4l2_buffer, m) == LAYOUT[3]);
    assert!(DQBUF.number as usize == LAYOUT[4]);
    assert!(S_FMT.number as usize == LAYOUT[5]);
    #[cfg(target_pointer_width = "64")]
    const LIST: [usize; 3] = [32, 24, 0xc020_5648];
    #[cfg(target_pointer_width = "32")]
    const LIST: [usize; 3] = [24, 20, 0xc018_5648];
    assert!(size_of::<sys::v4l2_ext_controls>() == LIST[0]);
    assert!(offset_of!(sys::v4l2_ext_controls, controls) == LIST[1]);
    assert!(S_EXT_CTRLS.number as usize == LIST[2]);
    assert!(size_of::<sys::v4l2_ext_control>() == 20);
    assert!(offset_of!(sys::v4l2_ext_control, __bindgen_anon_1) == 12);
    assert!(offset_of!(sys::v4l2_query_ext_ctrl, minimum) == 40);
    assert!(offset_of!(sys::v4l2_query_ext_ctrl, flags) == 72);
    assert!(QUERY_EXT_CTRL.number as usize == 0xc0e8_5667);
    assert!(offset_of!(sys::v4l2_querymenu, __bindgen_anon_1) == 8);
    assert!(QUERYMENU.number as usize == 0xc02c_5625);
};

const CAPTURE: u32 = sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;
const MMAP: u32 = sys::v4l2_memory_V4L2_MEMORY_MMAP;

/// A structure of plain numbers (and unions of them) that may be all zeros.
///
/// # Safety
/// Every bit pattern of the type must be valid, zeros included.
unsafe trait Plain: Copy {
    fn zeros() -> Self {
        // SAFETY: the implementor promises that zeros are a value.
        unsafe { zeroed() }
    }
}

// SAFETY: C structures of integers, arrays and unions of integers; the one pointer among
// them (`v4l2_buffer.m.planes`) is raw and never followed.
unsafe impl Plain for sys::v4l2_capability {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_fmtdesc {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_frmsizeenum {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_frmivalenum {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_format {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_streamparm {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_requestbuffers {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_buffer {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_query_ext_ctrl {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_querymenu {}
// SAFETY: as above.
unsafe impl Plain for libc::c_int {}

fn call<T: Plain>(fd: RawFd, call: &Call<T>, argument: &mut T) -> io::Result<()> {
    // SAFETY: plain numbers lead nowhere.
    unsafe { call_through(fd, call, argument) }
}

/// The same for a structure that holds pointers.
///
/// # Safety
/// What the driver finds behind the pointers in `argument` must be ours and as large as it says.
unsafe fn call_through<T>(fd: RawFd, call: &Call<T>, argument: &mut T) -> io::Result<()> {
    loop {
        // SAFETY: `argument` is a live structure of the size that the number encodes
        // (`Call::new`), and any bytes that the driver writes into it are a valid `T`.
        let result = unsafe { libc::ioctl(fd, call.number as _, argument as *mut T) };
        if result != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What became of one descriptor in a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    pub readable: bool,
    /// POLLERR, POLLHUP or POLLNVAL.
    pub failed: bool,
}

/// Wait until one of `fds` is ready or `until` has come; without `until`, as long as it takes.
pub fn wait<const N: usize>(
    fds: [Option<BorrowedFd>; N],
    until: Option<Instant>,
) -> io::Result<[Ready; N]> {
    // poll ignores negative descriptors.
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = until.map_or(-1, |until| {
        // Rounded up: waking a little too early would only mean to wait again.
        let rest = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        i32::try_from(rest.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: `polled` is a live array of `N` entries.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
    if count == -1 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok([Ready::default(); N]),
            _ => Err(error),
        };
    }
    const FAILED: libc::c_short = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    Ok(polled.map(|p| Ready {
        readable: p.revents & libc::POLLIN != 0,
        failed: p.revents & FAILED != 0,
    }))
}

// ---- what a device is -----------------------------------------------------------------------

/// A pixel format's four characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fourcc(pub [u8; 4]);

impl Fourcc {
    /// How its bytes lie if we can encode it; none if it is JPEG or not known here.
    pub fn layout(self) -> Option<Layout> {
        Some(match &self.0 {
            b"YUYV" => Layout::Yuyv,
            b"UYVY" => Layout::Uyvy,
            b"NV12" => Layout::Nv12,
            b"YU12" => Layout::Yu12,
            b"RGB3" => Layout::Rgb3,
            b"BGR3" => Layout::Bgr3,
            b"GREY" => Layout::Grey,
            _ => return None,
        })
    }

    pub fn is_jpeg(self) -> bool {
        matches!(&self.0, b"MJPG" | b"JPEG")
    }
}

impl fmt::Display for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: String = self.0.iter().map(|b| char::from(b & 0x7f)).collect();
        write!(f, "{}", name.trim_end().escape_debug())
    }
}

impl fmt::Debug for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Formats from the best to the last: JPEG needs no encoding, YUV no conversion.
const PREFERENCE: [&[u8; 4]; 9] =
    [b"MJPG", b"JPEG", b"YUYV", b"UYVY", b"NV12", b"YU12", b"RGB3", b"BGR3", b"GREY"];

/// The best of `offered`, or the one that `wanted` names.
pub fn choose(offered: &[Fourcc], wanted: Option<[u8; 4]>) -> Option<Fourcc> {
    let fits = |code: &[u8; 4]| match wanted {
        None => true,
        Some(wanted) if Fourcc(wanted).is_jpeg() => Fourcc(*code).is_jpeg(),
        Some(wanted) => wanted == *code,
    };
    let mut best = PREFERENCE.into_iter().filter(|code| fits(code)).map(|code| Fourcc(*code));
    best.find(|code| offered.contains(code))
}

/// Sizes that a device offers for a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    One(u32, u32),
    /// Each side from the least by steps to the greatest.
    Range {
        min: (u32, u32),
        max: (u32, u32),
        step: (u32, u32),
    },
}

impl Sizes {
    /// Of these, the one nearest to `wanted`.
    fn nearest(self, wanted: (u32, u32)) -> (u32, u32) {
        let snap = |wanted: u32, min: u32, max: u32, step: u32| {
            let clamped = wanted.clamp(min, max.max(min));
            clamped - (clamped - min) % step.max(1)
        };
        match self {
            Sizes::One(width, height) => (width, height),
            Sizes::Range { min, max, step } => {
                (snap(wanted.0, min.0, max.0, step.0), snap(wanted.1, min.1, max.1, step.1))
            }
        }
    }
}

/// Of all sizes offered, the one nearest to `wanted`; none if the device tells no sizes.
pub fn nearest(offered: &[Sizes], wanted: (u32, u32)) -> Option<(u32, u32)> {
    let distance = |(w, h): (u32, u32)| w.abs_diff(wanted.0) + h.abs_diff(wanted.1);
    offered.iter().map(|sizes| sizes.nearest(wanted)).min_by_key(|size| distance(*size))
}

/// The most pixels that a device offers and a frame may have.
pub fn largest(offered: &[Sizes]) -> Option<(u32, u32)> {
    let size = |sizes: &Sizes| match *sizes {
        Sizes::One(width, height) => (width, height),
        Sizes::Range { max, .. } => max,
    };
    let pixels = |(w, h): (u32, u32)| u64::from(w) * u64::from(h);
    let fitting = offered.iter().map(size).filter(|size| pixels(*size) <= PIXELS_MAX.into());
    fitting.max_by_key(|size| pixels(*size))
}

/// What a node is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Camera,
    /// A camera module's raw sensor data, which only libcamera can develop.
    RawBayer,
    /// Metadata, codecs, image processors, outputs, radios: nothing to watch.
    NotACamera,
}

/// Judge a node by what it says of itself.
pub fn judge(driver: &str, capabilities: u32, formats: &[Fourcc]) -> Verdict {
    let needed = sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_STREAMING;
    // Stages of an image pipeline: they capture what is fed to them, which is nothing.
    let is_stage = ["bcm2835-isp", "bcm2835-codec", "pispbe", "rpi-hevc-dec"].contains(&driver);
    if capabilities & needed != needed || is_stage {
        return Verdict::NotACamera;
    }
    let readable = choose(formats, None).is_some();
    let bayer = formats.iter().any(|f| is_bayer(*f));
    match driver {
        "rp1-cfe" => Verdict::RawBayer,
        // An HDMI bridge at the same connector gives YUV and no Bayer.
        "unicam" if bayer || !readable => Verdict::RawBayer,
        _ if !readable && bayer => Verdict::RawBayer,
        _ => Verdict::Camera,
    }
}

/// Names of raw Bayer formats: `BA81`, `GBRG`, `pBAA`, `RG10`, `BYR2`…
fn is_bayer(Fourcc(code): Fourcc) -> bool {
    let start = &code[..2];
    let depth = code[2..].iter().all(u8::is_ascii_digit) || code[2..].ends_with(b"A");
    matches!(&code, b"GBRG" | b"GRBG" | b"RGGB" | b"BYR2" | b"BA81")
        || (matches!(start, b"BG" | b"GB" | b"GR" | b"RG" | b"BA") && depth)
        || matches!(start, b"pB" | b"pG" | b"pg" | b"pR")
}

/// An open device node. Bound: the kernel's names, 32 bytes each.
pub struct Device {
    fd: OwnedFd,
    pub path: PathBuf,
    pub driver: String,
    pub card: String,
    /// Where it is plugged in: stays the same when the node's number changes.
    pub bus: String,
    /// At most `ENUMERATION_MAX`.
    pub formats: Vec<Fourcc>,
    pub verdict: Verdict,
}

impl Device {
    /// What keeps the device open until it is dropped too.
    pub fn hold(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Open `path` and ask what it is. Opening does not disturb another program's capture.
    pub fn open(path: &Path) -> Result<Device> {
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let fd = v4l::v4l2::open(path, flags)
            .map_err(|source| Error::new("open", path.display(), source))?;
        // SAFETY: `fd` was opened just now and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut caps = sys::v4l2_capability::zeros();
        call(fd.as_raw_fd(), &QUERYCAP, &mut caps)
            .map_err(|source| Error::new("query", path.display(), source))?;
        let capabilities = match caps.capabilities & sys::V4L2_CAP_DEVICE_CAPS {
            0 => caps.capabilities,
            _ => caps.device_caps,
        };
        let formats = formats(&fd);
        let driver = text(&caps.driver);
        let verdict = judge(&driver, capabilities, &formats);
        let path = path.to_owned();
        Ok(Device {
            fd,
            path,
            driver,
            card: text(&caps.card),
            bus: text(&caps.bus_info),
            formats,
            verdict,
        })
    }

    pub fn sizes(&self, format: Fourcc) -> Vec<Sizes> {
        let sizes = (0..ENUMERATION_MAX).map_while(|index| {
            let mut entry = sys::v4l2_frmsizeenum { index, ..Plain::zeros() };
            entry.pixel_format = u32::from_le_bytes(format.0);
            call(self.fd.as_raw_fd(), &ENUM_FRAMESIZES, &mut entry).ok()?;
            // SAFETY: all members are integers; `type_` says which one was written.
            let (one, range) =
                unsafe { (entry.__bindgen_anon_1.discrete, entry.__bindgen_anon_1.stepwise) };
            Some(if entry.type_ == sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE {
                (Sizes::One(one.width, one.height), true)
            } else {
                let sizes = Sizes::Range {
                    min: (range.min_width, range.min_height),
                    max: (range.max_width, range.max_height),
                    step: (range.step_width, range.step_height),
                };
                (sizes, false)
            })
        });
        // A range is the only entry, whatever the driver says to index 1.
        let mut more = true;
        let mut all: Vec<Sizes> = sizes
            .take_while(|(_, discrete)| std::mem::replace(&mut more, *discrete))
            .map(|(sizes, _)| sizes)
            .collect();
        all.dedup();
        all
    }

    /// Frames a second that the device offers for a format and size, the least and the most
    /// where it offers a range.
    pub fn rates(&self, format: Fourcc, (width, height): (u32, u32)) -> Vec<f64> {
        let mut rates = Vec::new();
        for index in 0..ENUMERATION_MAX {
            let mut entry = sys::v4l2_frmivalenum { index, width, height, ..Plain::zeros() };
            entry.pixel_format = u32::from_le_bytes(format.0);
            if call(self.fd.as_raw_fd(), &ENUM_FRAMEINTERVALS, &mut entry).is_err() {
                break;
            }
            // SAFETY: all members are integers; `type_` says which one was written.
            let (one, range) =
                unsafe { (entry.__bindgen_anon_1.discrete, entry.__bindgen_anon_1.stepwise) };
            if entry.type_ == sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE {
                rates.extend(rate(one));
                continue;
            }
            rates.extend([rate(range.max), rate(range.min)].into_iter().flatten());
            break;
        }
        rates
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.path.display(), self.card, self.driver)
    }
}

fn formats(fd: &OwnedFd) -> Vec<Fourcc> {
    let format = |index| {
        let mut entry = sys::v4l2_fmtdesc { index, type_: CAPTURE, ..Plain::zeros() };
        call(fd.as_raw_fd(), &ENUM_FMT, &mut entry).ok()?;
        Some(Fourcc(entry.pixelformat.to_le_bytes()))
    };
    (0..ENUMERATION_MAX).map_while(format).collect()
}

/// A driver's name for something: bytes up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).chars().filter(|c| !c.is_control()).collect()
}

/// Frames a second of an interval in seconds.
fn rate(interval: sys::v4l2_fract) -> Option<f64> {
    let fine = interval.numerator > 0 && interval.denominator > 0;
    fine.then(|| f64::from(interval.denominator) / f64::from(interval.numerator))
}

/// All video nodes of this machine, by number.
pub fn nodes() -> Vec<PathBuf> {
    let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers.truncate(NODES_MAX);
    numbers.into_iter().map(|number| format!("/dev/video{number}").into()).collect()
}

// ---- controls -------------------------------------------------------------------------------

/// Asks for the entry behind an id, simple or compound.
const NEXT: u32 = sys::V4L2_CTRL_FLAG_NEXT_CTRL | sys::V4L2_CTRL_FLAG_NEXT_COMPOUND;

/// Which of a control's values.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Which {
    Current = sys::V4L2_CTRL_WHICH_CUR_VAL,
    Default = sys::V4L2_CTRL_WHICH_DEF_VAL,
}

/// The classes of controls that cameras have, with the kernel's names for them.
const CLASSES: [(u32, &str); 4] = [
    (0x0098_0000, "User Controls"),
    (0x009a_0000, "Camera Controls"),
    (0x009e_0000, "Image Source Controls"),
    (0x009f_0000, "Image Processing Controls"),
];

impl Device {
    /// All controls in the driver's order, with their values. Those that are disabled for good are
    /// left out.
    pub fn controls(&self) -> io::Result<Vec<Control>> {
        let mut controls = Vec::new();
        let mut class = (0, String::new());
        let mut last = 0;
        for _ in 0..CONTROLS_MAX {
            let entry = match self.entry(last | NEXT) {
                Ok(entry) if entry.id > last => entry,
                Ok(_) => break, // it goes in circles
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINVAL | libc::ENOTTY) => break,
                    Some(libc::ENODEV) => return Err(error),
                    // A control that the camera does not describe hides those behind it.
                    _ => match self.entry_behind(last) {
                        Some(entry) => entry,
                        None if controls.is_empty() => return Err(error),
                        None => break,
                    },
                },
            };
            last = entry.id;
            let of = entry.id & 0x0fff_0000;
            if entry.type_ == sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_CTRL_CLASS {
                class = (of, name_of(&entry));
            } else if entry.flags & sys::V4L2_CTRL_FLAG_DISABLED == 0 {
                if class.0 != of {
                    class = (of, class_name(of).to_owned());
                }
                controls.push(Control { class: class.1.clone(), ..self.describe(&entry) });
            }
        }
        Ok(controls)
    }

    /// One control with its value; none if the device has no such control. Its class is left empty.
    pub fn control(&self, id: u32) -> io::Result<Option<Control>> {
        let is_heading = |entry: &sys::v4l2_query_ext_ctrl| {
            entry.type_ == sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_CTRL_CLASS
                || entry.flags & sys::V4L2_CTRL_FLAG_DISABLED != 0
        };
        // With these flags the id would mean another one.
        if id & NEXT != 0 {
            return Ok(None);
        }
        match self.entry(id) {
            Ok(entry) if is_heading(&entry) => Ok(None),
            Ok(entry) => Ok(Some(self.describe(&entry))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINVAL | libc::ENOTTY) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Set a control to a value that it understands.
    pub fn set_control(&self, control: &Control, value: &Value) -> io::Result<()> {
        let (number, mut text) = match value {
            Value::Text(text) => (0, [text.as_bytes(), &[0]].concat()),
            Value::Number(number) => (*number, Vec::new()),
        };
        if (control.kind == Kind::String) == text.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut entry = ext_control(control.id);
        entry.__bindgen_anon_1 = match control.kind {
            Kind::String => {
                sys::v4l2_ext_control__bindgen_ty_1 { string: text.as_mut_ptr().cast() }
            }
            Kind::Integer64 => sys::v4l2_ext_control__bindgen_ty_1 { value64: number },
            // A bitmask has the bits of a number without sign.
            _ => sys::v4l2_ext_control__bindgen_ty_1 { value: number as i32 },
        };
        entry.size = text.len() as u32;
        // SAFETY: a text is as long as the entry says. Without one the size is 0, and a driver that
        // takes the value for an address refuses it for that.
        unsafe { self.exchange(&S_EXT_CTRLS, Which::Current, &mut entry) }
    }

    fn entry(&self, id: u32) -> io::Result<sys::v4l2_query_ext_ctrl> {
        let mut entry = sys::v4l2_query_ext_ctrl { id, ..Plain::zeros() };
        call(self.fd.as_raw_fd(), &QUERY_EXT_CTRL, &mut entry)?;
        Ok(entry)
    }

    /// The first entry behind `last` that can be asked for by its number, among the common ones.
    fn entry_behind(&self, last: u32) -> Option<sys::v4l2_query_ext_ctrl> {
        let common = CLASSES.iter().flat_map(|(class, _)| (class | 0x900)..(class | 0x940));
        common.filter(|id| *id > last).find_map(|id| self.entry(id).ok())
    }

    fn describe(&self, entry: &sys::v4l2_query_ext_ctrl) -> Control {
        let flag = |flag: u32| entry.flags & flag != 0;
        let kind = kind_of(entry);
        let read_only = flag(sys::V4L2_CTRL_FLAG_READ_ONLY);
        let grabbed = flag(sys::V4L2_CTRL_FLAG_GRABBED);
        let inactive = flag(sys::V4L2_CTRL_FLAG_INACTIVE);
        let mut control = Control {
            id: entry.id,
            name: name_of(entry),
            class: String::new(),
            kind,
            value: None,
            default: None,
            minimum: entry.minimum,
            maximum: entry.maximum,
            step: entry.step,
            menu: Vec::new(),
            read_only,
            write_only: flag(sys::V4L2_CTRL_FLAG_WRITE_ONLY),
            inactive,
            grabbed,
            volatile: flag(sys::V4L2_CTRL_FLAG_VOLATILE),
            settable: !(read_only || grabbed || inactive || kind == Kind::Compound),
            kept: false,
        };
        match kind {
            Kind::Menu | Kind::IntegerMenu => control.menu = self.menu(&control),
            Kind::Bitmask => control.maximum = (entry.maximum as u32).into(),
            _ => {}
        }
        control.default = match kind {
            Kind::Button | Kind::Compound => None,
            Kind::String => self.value(&control, Which::Default).ok(),
            Kind::Bitmask => Some(Value::Number((entry.default_value as u32).into())),
            _ => Some(Value::Number(entry.default_value)),
        };
        let readable = !control.write_only && !matches!(kind, Kind::Button | Kind::Compound);
        if readable {
            control.value = self.value(&control, Which::Current).ok();
        }
        control
    }

    /// What a menu offers; drivers leave out what the camera has not.
    fn menu(&self, control: &Control) -> Vec<Choice> {
        let indices = control.minimum.max(0)..=control.maximum.min(u32::MAX.into());
        let choice = |index: i64| {
            let mut item =
                sys::v4l2_querymenu { id: control.id, index: index as u32, ..Plain::zeros() };
            call(self.fd.as_raw_fd(), &QUERYMENU, &mut item).ok()?;
            let found = item.__bindgen_anon_1;
            // SAFETY: both members are bytes and numbers; the control's kind says which one was
            // written.
            let (name, value) = unsafe { (found.name, found.value) };
            let name = if control.kind == Kind::Menu { text(&name) } else { value.to_string() };
            Some(Choice { value: index, name })
        };
        indices.take(MENU_MAX).filter_map(choice).collect()
    }

    fn value(&self, control: &Control, which: Which) -> io::Result<Value> {
        let mut entry = ext_control(control.id);
        let mut text = match control.kind {
            Kind::String => vec![0; control.maximum as usize + 1], // bounded by `kind_of`
            _ => Vec::new(),
        };
        if control.kind == Kind::String {
            entry.size = text.len() as u32;
            let string = text.as_mut_ptr().cast();
            entry.__bindgen_anon_1 = sys::v4l2_ext_control__bindgen_ty_1 { string };
        }
        // SAFETY: as in `set_control`.
        unsafe { self.exchange(&G_EXT_CTRLS, which, &mut entry)? };
        let found = entry.__bindgen_anon_1;
        // SAFETY: all members are as good as numbers; which one was written, the kind says.
        let (number, long) = unsafe { (found.value, found.value64) };
        Ok(match control.kind {
            Kind::String => Value::Text(self::text(&text)),
            Kind::Integer64 => Value::Number(long),
            Kind::Bitmask => Value::Number((number as u32).into()),
            _ => Value::Number(number.into()),
        })
    }

    /// Get or set the value of one control.
    ///
    /// # Safety
    /// If `entry` has a size, its pointer must lead to so many bytes of ours.
    unsafe fn exchange(
        &self,
        call: &Call<sys::v4l2_ext_controls>,
        which: Which,
        entry: &mut sys::v4l2_ext_control,
    ) -> io::Result<()> {
        let mut list = sys::v4l2_ext_controls {
            __bindgen_anon_1: sys::v4l2_ext_controls__bindgen_ty_1 { which: which as u32 },
            count: 1,
            error_idx: 0,
            request_fd: 0,
            reserved: [0],
            controls: entry,
        };
        // SAFETY: `controls` leads to one entry, as `count` says; for what is behind that one the
        // caller answers.
        unsafe { call_through(self.fd.as_raw_fd(), call, &mut list) }
    }
}

fn ext_control(id: u32) -> sys::v4l2_ext_control {
    let value64 = sys::v4l2_ext_control__bindgen_ty_1 { value64: 0 };
    sys::v4l2_ext_control { id, size: 0, reserved2: [0], __bindgen_anon_1: value64 }
}

/// What kind of control an entry is, so far as we can handle it.
fn kind_of(entry: &sys::v4l2_query_ext_ctrl) -> Kind {
    let lengths = 0..=CONTROL_TEXT_BYTES_MAX;
    if entry.nr_of_dims > 0 || entry.elems > 1 {
        return Kind::Compound; // an array
    }
    match entry.type_ {
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER => Kind::Integer,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64 => Kind::Integer64,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN => Kind::Boolean,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU => Kind::Menu,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU => Kind::IntegerMenu,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK => Kind::Bitmask,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON => Kind::Button,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_STRING if lengths.contains(&entry.maximum) => {
            Kind::String
        }
        _ => Kind::Compound,
    }
}

fn name_of(entry: &sys::v4l2_query_ext_ctrl) -> String {
    text(&entry.name.map(|byte| byte as u8))
}

fn class_name(class: u32) -> &'static str {
    let known = CLASSES.iter().find(|(number, _)| *number == class);
    known.map_or("Other Controls", |(_, name)| name)
}

// ---- capture --------------------------------------------------------------------------------

/// What is asked of a device; it may give something near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub format: Fourcc,
    pub size: (u32, u32),
    pub fps: u32,
}

/// What the device gives.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub format: Fourcc,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes a row, of raw formats.
    pub stride: usize,
    /// Whether YUV runs from 16 to 235.
    pub limited: bool,
    /// Frames a second, if the driver tells.
    pub fps: Option<f64>,
}

/// A device that streams into buffers shared with the driver. Dropping it stops the stream, frees
/// the buffers and closes the device.
pub struct Capture {
    pub given: Given,
    /// The highest number of a frame since the stream began.
    newest: Option<u32>,
    // Fields are dropped in this order: mappings before the device. At most `BUFFERS_MAX`.
    buffers: Vec<Mapping>,
    device: Device,
}

/// A buffer that the driver has filled and that must go back by `requeue`.
#[derive(Debug)]
pub struct Filled {
    index: u32,
    length: usize,
    /// The driver found the data damaged.
    pub flagged: bool,
    /// A newer one was given before it.
    pub late: bool,
    /// When the frame was captured.
    pub captured: Instant,
}

impl Capture {
    /// Set format and rate, map the buffers, start to stream.
    pub fn start(device: Device, wish: Wish) -> Result<Capture> {
        let fd = device.fd.as_raw_fd();
        let given = set_format(fd, wish)
            .map_err(|source| Error::new("set the format of", device.path.display(), source))?;
        let mut capture = Capture { given, newest: None, buffers: Vec::new(), device };
        capture.stream(wish)?;
        Ok(capture)
    }

    /// Stop, and stream in another way from the same device.
    pub fn restart(&mut self, wish: Wish) -> Result<()> {
        self.halt();
        let given = set_format(self.device.fd.as_raw_fd(), wish);
        self.given = given.map_err(failed_at(self, "set the format of"))?;
        self.stream(wish)
    }

    fn stream(&mut self, wish: Wish) -> Result<()> {
        self.newest = None;
        let fd = self.device.fd.as_raw_fd();
        self.given.fps = set_rate(fd, wish.fps);
        let mut request = sys::v4l2_requestbuffers { count: BUFFERS, ..Plain::zeros() };
        (request.type_, request.memory) = (CAPTURE, MMAP);
        call(fd, &REQBUFS, &mut request).map_err(failed_at(self, "ask for buffers of"))?;
        for index in 0..request.count.min(BUFFERS_MAX as u32) {
            let mapping = Mapping::new(fd, index).map_err(failed_at(self, "map a buffer of"))?;
            self.buffers.push(mapping);
            self.queue(index).map_err(failed_at(self, "queue a buffer of"))?;
        }
        call(fd, &STREAMON, &mut (CAPTURE as libc::c_int))
            .map_err(failed_at(self, "start to stream from"))
    }

    /// Stop and give the buffers back. The device may be gone: errors mean that there is nothing
    /// to undo.
    fn halt(&mut self) {
        let fd = self.device.fd.as_raw_fd();
        let _ = call(fd, &STREAMOFF, &mut (CAPTURE as libc::c_int));
        self.buffers.clear(); // a mapped buffer cannot be freed
        let mut none = sys::v4l2_requestbuffers { count: 0, ..Plain::zeros() };
        (none.type_, none.memory) = (CAPTURE, MMAP);
        let _ = call(fd, &REQBUFS, &mut none);
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.device.fd.as_fd()
    }

    /// The next buffer that the driver has filled, if there is one.
    pub fn dequeue(&mut self) -> Result<Option<Filled>> {
        let mut buffer = buffer(0);
        match call(self.device.fd.as_raw_fd(), &DQBUF, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => other.map_err(failed_at(self, "read a frame from"))?,
        }
        let Some(mapping) = self.buffers.get(buffer.index as usize) else {
            let reason = "the driver gave a buffer that is not ours".to_owned();
            return Err(Error::found("read a frame from", self.device.path.display(), reason));
        };
        let late = self.newest.is_some_and(|newest| is_late(buffer.sequence, newest));
        if !late {
            self.newest = Some(buffer.sequence);
        }
        Ok(Some(Filled {
            late,
            index: buffer.index,
            length: (buffer.bytesused as usize).min(mapping.length),
            flagged: buffer.flags & sys::V4L2_BUF_FLAG_ERROR != 0,
            captured: capture_time(&buffer),
        }))
    }

    /// The bytes of a frame: as many as the driver wrote.
    pub fn bytes<'a>(&'a self, filled: &'a Filled) -> &'a [u8] {
        &self.buffers[filled.index as usize].bytes()[..filled.length]
    }

    /// Give the buffer back to the driver.
    pub fn requeue(&mut self, filled: Filled) -> Result<()> {
        self.queue(filled.index).map_err(failed_at(self, "queue a buffer of"))
    }

    fn queue(&self, index: u32) -> io::Result<()> {
        call(self.device.fd.as_raw_fd(), &QBUF, &mut buffer(index))
    }
}

fn failed_at(capture: &Capture, doing: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = capture.device.path.display().to_string();
    move |source| Error::new(doing, path, source)
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Whether a frame was begun before one that was given already: uvcvideo fills several buffers at
/// once, on several processors. Further back than there are buffers lies no frame: that driver
/// has begun to count anew, and one that does not count always says the same.
fn is_late(sequence: u32, newest: u32) -> bool {
    (1..=BUFFERS_MAX as u32).contains(&newest.wrapping_sub(sequence))
}

fn buffer(index: u32) -> sys::v4l2_buffer {
    sys::v4l2_buffer { index, type_: CAPTURE, memory: MMAP, ..Plain::zeros() }
}

fn set_format(fd: RawFd, wish: Wish) -> io::Result<Given> {
    let mut format = sys::v4l2_format { type_: CAPTURE, ..Plain::zeros() };
    let mut pix: sys::v4l2_pix_format = {
        // SAFETY: the union is all zeros, and zeros are a valid `v4l2_pix_format`.
        unsafe { format.fmt.pix }
    };
    (pix.width, pix.height) = wish.size;
    pix.pixelformat = u32::from_le_bytes(wish.format.0);
    format.fmt.pix = pix;
    call(fd, &S_FMT, &mut format)?;
    // SAFETY: for a capture type the driver has filled in `pix`.
    let pix = unsafe { format.fmt.pix };
    let given = Fourcc(pix.pixelformat.to_le_bytes());
    if given != wish.format {
        let reason = format!("{} was asked for and {given} came", wish.format);
        return Err(io::Error::other(reason));
    }
    let side = SIDE_PIXELS_MIN..=SIDE_PIXELS_MAX;
    let fits = side.contains(&pix.width) && side.contains(&pix.height);
    if !fits || pix.width * pix.height > PIXELS_MAX {
        let reason = format!("a size of {}x{} cannot be used", pix.width, pix.height);
        return Err(io::Error::other(reason));
    }
    let row = given.layout().map_or(0, |layout| layout.row_bytes(pix.width as usize));
    let full = match pix.quantization {
        sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE => true,
        sys::v4l2_quantization_V4L2_QUANTIZATION_LIM_RANGE => false,
        // V4L2_MAP_QUANTIZATION_DEFAULT for YUV. Grey has no chroma to be limited with: cameras
        // and vivid give all of its range.
        _ => {
            pix.colorspace == sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG
                || given.layout() == Some(Layout::Grey)
        }
    };
    Ok(Given {
        format: given,
        width: pix.width,
        height: pix.height,
        stride: (pix.bytesperline as usize).max(row),
        limited: !full,
        fps: None,
    })
}

/// Ask for a rate and say which one it is. After S_FMT, which resets it; some cameras cannot
/// set it, and that is no error.
fn set_rate(fd: RawFd, fps: u32) -> Option<f64> {
    let mut parameters = sys::v4l2_streamparm { type_: CAPTURE, ..Plain::zeros() };
    let interval = sys::v4l2_fract { numerator: 1, denominator: fps };
    parameters.parm.capture.timeperframe = interval;
    let set = call(fd, &S_PARM, &mut parameters);
    if set.is_err() {
        call(fd, &G_PARM, &mut parameters).ok()?;
    }
    // SAFETY: for a capture type the driver has filled in `capture`.
    rate(unsafe { parameters.parm.capture.timeperframe })
}

/// When a buffer was captured. Drivers stamp with the clock that `Instant` counts by too.
fn capture_time(buffer: &sys::v4l2_buffer) -> Instant {
    // Read side by side: their difference is what counts.
    let (monotonic, now) = (clock_gettime(ClockId::Monotonic), Instant::now());
    let clock = buffer.flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK;
    if clock != sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC {
        return now;
    }
    let stamp = Duration::from_secs(buffer.timestamp.tv_sec.max(0) as u64)
        + Duration::from_micros(buffer.timestamp.tv_usec.clamp(0, 999_999) as u64);
    let monotonic = Duration::new(monotonic.tv_sec.max(0) as u64, monotonic.tv_nsec as u32);
    now.checked_sub(monotonic.saturating_sub(stamp).min(FRAME_TIME_MAX)).unwrap_or(now)
}

/// A buffer of the driver in our memory.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn new(fd: RawFd, index: u32) -> io::Result<Mapping> {
        let mut described = buffer(index);
        call(fd, &QUERYBUF, &mut described)?;
        let length = described.length as usize;
        // SAFETY: for MMAP memory the driver has filled in `offset`.
        let offset = unsafe { described.m.offset };
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours is there.
        let start = unsafe {
            v4l::v4l2::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE, // some drivers refuse read-only mappings
                libc::MAP_SHARED,
                fd,
                offset as libc::off_t,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Mapping { start, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped from `start` until `drop`. The driver writes into
        // them only between queue and dequeue; `Capture::bytes` wants the `Filled` that exists
        // only outside of that.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and no slice of it outlives `self`.
        let _ = unsafe { v4l::v4l2::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(names: &[&[u8; 4]]) -> Vec<Fourcc> {
        names.iter().map(|name| Fourcc(**name)).collect()
    }

    #[test]
    fn jpeg_is_preferred_then_yuv() {
        let camera = codes(&[b"YUYV", b"MJPG", b"H264"]);
        assert_eq!(choose(&camera, None), Some(Fourcc(*b"MJPG")));
        assert_eq!(choose(&camera, Some(*b"YUYV")), Some(Fourcc(*b"YUYV")));
        assert_eq!(choose(&camera, Some(*b"NV12")), None);
        assert_eq!(choose(&codes(&[b"JPEG"]), Some(*b"MJPG")), Some(Fourcc(*b"JPEG")));
        assert_eq!(choose(&codes(&[b"GREY", b"BGR3"]), None), Some(Fourcc(*b"BGR3")));
        assert_eq!(choose(&codes(&[b"H264"]), None), None);
    }

    #[test]
    fn the_nearest_size_is_taken() {
        let sizes = [Sizes::One(640, 480), Sizes::One(1280, 720), Sizes::One(1920, 1080)];
        assert_eq!(nearest(&sizes, (1280, 720)), Some((1280, 720)));
        assert_eq!(nearest(&sizes, (1000, 600)), Some((1280, 720)));
        assert_eq!(nearest(&sizes, (9999, 9999)), Some((1920, 1080)));
        let range = [Sizes::Range { min: (32, 32), max: (1920, 1080), step: (2, 4) }];
        assert_eq!(nearest(&range, (641, 483)), Some((640, 480)));
        assert_eq!(nearest(&range, (1, 9999)), Some((32, 1080)));
        assert_eq!(nearest(&[], (640, 480)), None);
        assert_eq!(largest(&sizes), Some((1920, 1080)));
        assert_eq!(largest(&[range[0], Sizes::One(9999, 9999)]), Some((1920, 1080)));
        assert_eq!(largest(&[]), None);
    }

    #[test]
    fn a_frame_behind_a_newer_one_is_late_however_the_driver_counts() {
        for (sequence, newest) in [(6, 7), (0, 3), (u32::MAX, 0), (7, 39)] {
            assert!(is_late(sequence, newest), "{sequence} after {newest}");
        }
        for (sequence, newest) in [(8, 7), (7, 7), (0, 0), (9, 7), (0, u32::MAX), (0, 500)] {
            assert!(!is_late(sequence, newest), "{sequence} after {newest}");
        }
    }

    #[test]
    fn nodes_are_judged_by_what_they_say() {
        let camera = sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_STREAMING;
        let metadata = sys::V4L2_CAP_META_CAPTURE | sys::V4L2_CAP_STREAMING;
        let mjpg = codes(&[b"MJPG", b"YUYV"]);
        let bayer = codes(&[b"BA81", b"pBAA", b"BG10"]);
        let check = |driver, caps, formats: &[Fourcc], expect| {
            assert_eq!(judge(driver, caps, formats), expect, "{driver} {formats:?}");
        };
        check("uvcvideo", camera, &mjpg, Verdict::Camera);
        check("uvcvideo", metadata, &[], Verdict::NotACamera);
        check("bm2835 mmal", camera, &codes(&[b"YU12", b"MJPG", b"H264"]), Verdict::Camera);
        check("unicam", camera, &bayer, Verdict::RawBayer);
        check("unicam", camera, &codes(&[b"UYVY", b"RGB3"]), Verdict::Camera);
        check("rp1-cfe", camera, &mjpg, Verdict::RawBayer);
        check("bcm2835-isp", camera, &codes(&[b"YUYV"]), Verdict::NotACamera);
        check("other", camera, &bayer, Verdict::RawBayer);
        check("other", camera, &codes(&[b"H264"]), Verdict::Camera);
    }
}
