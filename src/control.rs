//! A camera's controls as V4L2 knows them: what they are, what they may be set to, and what
//! somebody has set. Pure: knows neither the device nor the page.
//!
//! Names come from a driver and values from anybody: both are text that nobody vouches for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::limits::{KEPT_CAMERAS_MAX, SHOWN_VALUE_CHARS_MAX};

// ---- what is asked, and what is answered ----------------------------------------------------

/// What somebody wants of a camera's controls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// To see them.
    List,
    /// To set one, to a value as it was sent. Bound: `FORM_BYTES_MAX`.
    Set { id: u32, value: String },
    /// One as it is by default, or all.
    Reset(Option<u32>),
}

/// A deed on its way to the camera's thread.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names it among all orders.
    pub number: u64,
    pub deed: Deed,
    /// From here on nobody waits for it, and it is not to be done any more.
    pub until: Instant,
}

/// What became of an order.
pub type Told = Result<Listing, Refusal>;

/// A camera's controls as they are. Bound: the kernel's names and sentences of the code's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Listing {
    /// Node, name and driver; none where there is no device.
    pub camera: Option<String>,
    /// Why there are no controls.
    pub reason: Option<String>,
    /// At most `CONTROLS_MAX`.
    pub controls: Vec<Control>,
}

/// Why an order was not carried out, as a sentence. Bound: of what was sent it has
/// `SHOWN_VALUE_CHARS_MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The control cannot have this value.
    Wrong(String),
    /// There is no such control.
    Absent(String),
    /// It cannot be set, or not now, or the camera does not want to.
    Denied(String),
    /// The camera is not there, or failed.
    Failed(String),
}

impl Refusal {
    pub fn sentence(&self) -> &str {
        let (Refusal::Wrong(said)
        | Refusal::Absent(said)
        | Refusal::Denied(said)
        | Refusal::Failed(said)) = self;
        said
    }
}

// ---- a control ------------------------------------------------------------------------------

/// One control, and its value. Bound: the kernel's names, 32 bytes each.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    /// V4L2's number of it; the same for all cameras that have it.
    pub id: u32,
    pub name: String,
    /// The heading that the driver puts it under.
    pub class: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// None where there is none to be read.
    pub value: Option<Value>,
    pub default: Option<Value>,
    /// The least number, or number of characters.
    pub minimum: i64,
    /// The greatest one; of a bitmask, all bits that it may have.
    pub maximum: i64,
    /// What lies between is rounded by the driver.
    pub step: u64,
    /// What a menu offers: at most `MENU_MAX`.
    pub menu: Vec<Choice>,
    /// It tells something and cannot be set.
    pub read_only: bool,
    pub write_only: bool,
    /// Without effect now, mostly because another one is automatic.
    pub inactive: bool,
    /// Held by the stream or by another program.
    pub grabbed: bool,
    /// The camera changes it by itself.
    pub volatile: bool,
    /// Whether it can be set now.
    pub settable: bool,
    /// Somebody has set it here: it is set again when the camera comes back.
    pub kept: bool,
}

/// The kinds of controls (V4L2, `enum v4l2_ctrl_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Integer,
    Integer64,
    Boolean,
    Menu,
    /// A menu of numbers.
    IntegerMenu,
    Bitmask,
    String,
    /// Has no value: it does something.
    Button,
    /// Arrays, structures, and what is not known here: listed, not set.
    Compound,
}

/// One entry of a menu. Bound: the kernel's name of it, 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    pub value: i64,
    pub name: String,
}

/// What a control is set to. Bound: `CONTROL_TEXT_BYTES_MAX`, and in the file of settings
/// `SETTINGS_BYTES_MAX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Number(i64),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => f.write_str(text),
        }
    }
}

impl Control {
    /// What a value that was sent means for this control.
    pub fn understand(&self, sent: &str) -> Result<Value, Refusal> {
        match self.kind {
            Kind::Button => return Ok(Value::Number(0)),
            Kind::Compound => return Err(self.has_odd_type()),
            Kind::String if self.takes_text(sent) => return Ok(Value::Text(sent.to_owned())),
            Kind::String => {}
            _ => {
                if let Some(number) = number(sent).filter(|number| self.takes_number(*number)) {
                    return Ok(Value::Number(number));
                }
            }
        }
        let Control { name, minimum, maximum, .. } = self;
        let shown = excerpt(sent);
        Err(Refusal::Wrong(match self.kind {
            Kind::String => {
                format!("The control {name} must be a text of {minimum} to {maximum} bytes.")
            }
            Kind::Boolean => format!("The control {name} must be 0 or 1, not {shown}."),
            Kind::Menu | Kind::IntegerMenu => {
                let item = |item: &Choice| format!("{} ({})", item.value, item.name);
                let menu: Vec<String> = self.menu.iter().map(item).collect();
                let menu = menu.join(", ");
                format!("The control {name} must be one of {menu}, not {shown}.")
            }
            Kind::Bitmask => {
                format!("The control {name} can have the bits {maximum:#x} only, not {shown}.")
            }
            _ => format!(
                "The control {name} must be a whole number from {minimum} to {maximum}, \
                 not {shown}."
            ),
        }))
    }

    fn takes_number(&self, number: i64) -> bool {
        match self.kind {
            Kind::Boolean => (0..=1).contains(&number),
            Kind::Menu | Kind::IntegerMenu => self.menu.iter().any(|item| item.value == number),
            Kind::Bitmask => number & !self.maximum == 0,
            _ => (self.minimum..=self.maximum).contains(&number),
        }
    }

    fn has_odd_type(&self) -> Refusal {
        Refusal::Denied(format!("The control {} has a type that cannot be set here.", self.name))
    }

    fn takes_text(&self, sent: &str) -> bool {
        let length = sent.len() as i64;
        let in_range = (self.minimum..=self.maximum).contains(&length);
        let in_step = (length - self.minimum) % (self.step.max(1) as i64) == 0;
        in_range && in_step && !sent.contains(|c: char| c.is_control())
    }

    /// Refuse, with the reason, if it cannot be set now, whatever to.
    pub fn check_settable(&self) -> Result<(), Refusal> {
        let name = &self.name;
        Err(if self.settable {
            return Ok(());
        } else if self.read_only {
            Refusal::Denied(format!("The control {name} can only be read."))
        } else if self.grabbed {
            let sentence = format!("The control {name} cannot be changed while it is in use.");
            Refusal::Denied(sentence)
        } else if self.inactive {
            let sentence = format!("The control {name} is inactive: others decide about it now.");
            Refusal::Denied(sentence)
        } else {
            self.has_odd_type()
        })
    }

    /// A value of it as people read it: of a menu, its name there.
    pub fn in_words(&self, value: &Value) -> String {
        let named = self.menu.iter().find(|item| *value == Value::Number(item.value));
        match (named, self.kind, value) {
            (Some(item), ..) => item.name.clone(),
            (_, Kind::Boolean, Value::Number(0)) => "off".to_owned(),
            (_, Kind::Boolean, _) => "on".to_owned(),
            (_, Kind::Bitmask, Value::Number(bits)) => format!("{bits:#010x}"),
            _ => value.to_string(),
        }
    }
}

/// A number as people write it; 0x for one in base sixteen.
pub fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            i64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// The start of what somebody sent, for a sentence.
pub fn excerpt(sent: &str) -> Cow<'_, str> {
    if sent.is_empty() {
        return Cow::Borrowed("nothing");
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if sent.chars().nth(SHOWN_VALUE_CHARS_MAX).is_none() {
        return sent.chars().map(plain).collect();
    }
    let start = sent.chars().take(SHOWN_VALUE_CHARS_MAX).map(plain);
    start.chain(['…']).collect()
}

// ---- what works a control by itself ---------------------------------------------------------

const USER: u32 = 0x0098_0900;
const CAMERA: u32 = 0x009a_0900;
const EXPOSURE_AUTO: u32 = CAMERA + 1;
const FOCUS_AUTO: u32 = CAMERA + 12;
const WHITE_BALANCE_AUTO: u32 = USER + 12;

/// Controls, and the one that decides about each when it is automatic (linux/v4l2-controls.h).
const AUTOMATIC: [(u32, u32); 12] = [
    (CAMERA + 2, EXPOSURE_AUTO),     // exposure time
    (CAMERA + 17, EXPOSURE_AUTO),    // iris
    (USER + 17, EXPOSURE_AUTO),      // exposure
    (CAMERA + 10, FOCUS_AUTO),       // focus
    (USER + 26, WHITE_BALANCE_AUTO), // its temperature
    (USER + 14, WHITE_BALANCE_AUTO), // red
    (USER + 15, WHITE_BALANCE_AUTO), // blue
    (USER + 19, USER + 18),          // gain
    (USER + 3, USER + 25),           // hue
    (USER, USER + 32),               // brightness
    (USER + 36, USER + 29),          // chroma gain
    (CAMERA + 23, CAMERA + 24),      // ISO
];

/// The control that decides about this one when it is automatic.
pub fn switch_of(id: u32) -> Option<u32> {
    AUTOMATIC.iter().find(|(worked, _)| *worked == id).map(|(_, switch)| *switch)
}

/// Whether others depend on whether this one is automatic.
pub fn is_switch(id: u32) -> bool {
    AUTOMATIC.iter().any(|(_, switch)| *switch == id)
}

// ---- what somebody has set ------------------------------------------------------------------

/// What somebody has set, by the camera: at most `KEPT_CAMERAS_MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept(BTreeMap<String, Settings>);

/// What somebody has set of one camera, by the control's id. Bound: `CONTROLS_MAX` that the camera
/// has, and what the file of settings had before, `SETTINGS_BYTES_MAX`.
pub type Settings = BTreeMap<u32, Setting>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// For people who read the file. Bound: the kernel's name of it, 32 bytes, or the file's,
    /// `SETTINGS_BYTES_MAX`.
    #[serde(default)]
    pub name: String,
    pub value: Value,
}

impl Kept {
    /// Read what `to_text` has written; `Err` says what is wrong, and where.
    pub fn from_text(text: &[u8]) -> Result<Kept, String> {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// For a file that people may read and edit.
    pub fn to_text(&self) -> Vec<u8> {
        // Strings and numbers always have a form in JSON.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, camera: &str) -> Settings {
        self.0.get(camera).cloned().unwrap_or_default()
    }

    /// All that is set of `camera` from now on. If there are too many cameras, another is
    /// forgotten.
    pub fn put(&mut self, camera: &str, settings: Settings) {
        self.0.insert(camera.to_owned(), settings);
        while self.0.len() > KEPT_CAMERAS_MAX {
            let other = self.0.keys().find(|other| *other != camera).cloned();
            other.map(|other| self.0.remove(&other));
        }
    }

    /// Take over what is newer of the cameras that it has.
    pub fn merge(&mut self, newer: Kept) {
        newer.0.into_iter().for_each(|(camera, settings)| self.put(&camera, settings));
    }

    /// Cameras of which nothing is set are not worth a line.
    pub fn forget_empty(&mut self) {
        self.0.retain(|_, settings| !settings.is_empty());
    }
}

#[cfg(test)]
impl Control {
    /// One without a value, from 0 to 9, that can be set; a menu has these entries.
    pub fn sample(id: u32, name: &str, kind: Kind, menu: &[(i64, &str)]) -> Control {
        let choice = |(value, name): &(i64, &str)| Choice { value: *value, name: name.to_string() };
        let is_menu = matches!(kind, Kind::Menu | Kind::IntegerMenu);
        Control {
            id,
            name: name.to_owned(),
            class: "User Controls".to_owned(),
            kind,
            value: None,
            default: None,
            minimum: 0,
            maximum: 9,
            step: 1,
            menu: if is_menu { menu.iter().map(choice).collect() } else { Vec::new() },
            read_only: false,
            write_only: false,
            inactive: false,
            grabbed: false,
            volatile: false,
            settable: true,
            kept: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(kind: Kind, minimum: i64, maximum: i64) -> Control {
        let menu = [(0, "Disabled"), (2, "60 Hz")];
        Control { minimum, maximum, ..Control::sample(USER, "Knob", kind, &menu) }
    }

    #[track_caller]
    fn takes(control: &Control, sent: &str, value: i64) {
        assert_eq!(control.understand(sent), Ok(Value::Number(value)), "{sent:?}");
    }

    #[track_caller]
    fn refuses(control: &Control, sent: &str, parts: &[&str]) {
        let Err(Refusal::Wrong(sentence)) = control.understand(sent) else {
            panic!("{sent:?} is taken");
        };
        for part in parts.iter().chain(&["Knob"]) {
            assert!(sentence.contains(part), "no {part:?} in {sentence:?}");
        }
    }

    #[test]
    fn values_are_checked_against_what_the_control_allows() {
        let integer = control(Kind::Integer, -64, 64);
        takes(&integer, "-64", -64);
        takes(&integer, " 64 ", 64);
        takes(&integer, "0x10", 16);
        for sent in ["65", "-65", "", "x", "1.5", "0x", "0x-1", "1e3", "99999999999999999999"] {
            refuses(&integer, sent, &["from -64 to 64"]);
        }
        refuses(&integer, "65", &["not 65"]);
        refuses(&integer, "", &["not nothing"]);
        refuses(&integer, &"9".repeat(5000), &["999…"]);
        takes(&control(Kind::Integer64, i64::MIN, i64::MAX), "-9223372036854775808", i64::MIN);
        let boolean = control(Kind::Boolean, 0, 1);
        takes(&boolean, "1", 1);
        refuses(&boolean, "2", &["0 or 1"]);
        refuses(&boolean, "on", &["0 or 1"]);
        for kind in [Kind::Menu, Kind::IntegerMenu] {
            let menu = control(kind, 0, 2);
            takes(&menu, "2", 2);
            // In the range, and not in the menu.
            refuses(&menu, "1", &["0 (Disabled), 2 (60 Hz)", "not 1"]);
        }
        let bits = control(Kind::Bitmask, 0, 0x8000_0001);
        takes(&bits, "0x80000001", 0x8000_0001);
        takes(&bits, "1", 1);
        refuses(&bits, "2", &["0x80000001"]);
        refuses(&bits, "-1", &["0x80000001"]);
        takes(&control(Kind::Button, 0, 0), "", 0);
        let compound = control(Kind::Compound, 0, 1).understand("1");
        assert!(matches!(compound, Err(Refusal::Denied(_))), "{compound:?}");
    }

    #[test]
    fn texts_have_a_length_and_no_lines() {
        let text = Control { step: 2, ..control(Kind::String, 2, 4) };
        assert_eq!(text.understand("ab"), Ok(Value::Text("ab".to_owned())));
        for sent in ["", "a", "abc", "abcde", "a\n", "\0\0"] {
            refuses(&text, sent, &["2 to 4 bytes"]);
        }
    }

    #[test]
    fn a_control_that_cannot_be_set_says_why() {
        let free = control(Kind::Integer, 0, 1);
        assert_eq!(free.check_settable(), Ok(()));
        let stuck = Control { settable: false, ..free };
        for (control, part) in [
            (Control { read_only: true, ..stuck.clone() }, "only be read"),
            (Control { inactive: true, ..stuck.clone() }, "inactive"),
            (Control { grabbed: true, ..stuck.clone() }, "in use"),
            (stuck, "type"),
        ] {
            let denied = control.check_settable().expect_err("it cannot be set");
            assert!(denied.sentence().contains(part), "{denied:?}");
            assert!(matches!(denied, Refusal::Denied(_)));
        }
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written_and_a_broken_file_says_where() {
        let mut kept = Kept::default();
        let setting = |name: &str, value| Setting { name: name.to_owned(), value };
        let settings = BTreeMap::from([
            (9_963_776, setting("Brightness", Value::Number(-3))),
            (7, setting("Te\"xt", Value::Text("a\\b".to_owned()))),
        ]);
        kept.put("Rig at usb-1", settings.clone());
        kept.put("Other at usb-2", Settings::new());
        let text = kept.to_text();
        assert_eq!(Kept::from_text(&text), Ok(kept.clone()));
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\"9963776\": {\n      \"name\": \"Brightness\",\n"), "{text}");
        for (broken, part) in [
            ("", "line 1"),
            ("{\n\"a\": {\"x\": {\"value\": 1}}}", "line 2"),
            ("{\"a\": {\"1\": {\"name\": \"x\"}}}", "value"),
            ("[]", "line 1"),
        ] {
            let reason = Kept::from_text(broken.as_bytes()).expect_err(broken);
            assert!(reason.contains(part), "{reason}");
        }
        // Edited by hand, without names.
        let edited = Kept::from_text(b"{\"a\": {\"1\": {\"value\": 2}}}").unwrap();
        assert_eq!(edited.of("a")[&1].value, Value::Number(2));

        let mut newer = Kept::default();
        newer.put("Rig at usb-1", Settings::new());
        kept.merge(newer);
        assert!(kept.of("Rig at usb-1").is_empty());
        kept.merge(edited);
        kept.forget_empty();
        assert_eq!(kept.of("a").len(), 1);
        assert!(!String::from_utf8(kept.to_text()).unwrap().contains("usb"));
    }

    #[test]
    fn of_too_many_cameras_another_is_forgotten() {
        let mut kept = Kept::default();
        let gain = Setting { name: "Gain".to_owned(), value: Value::Number(1) };
        let settings = Settings::from([(1, gain)]);
        for n in 0..KEPT_CAMERAS_MAX + 9 {
            let camera = format!("camera {}", KEPT_CAMERAS_MAX + 9 - n); // the first by name
            let mut newer = Kept::default();
            newer.put(&camera, settings.clone());
            kept.merge(newer);
            assert_eq!(kept.of(&camera), settings, "what was set last is kept");
        }
        assert_eq!(kept.0.len(), KEPT_CAMERAS_MAX);
    }

    #[test]
    fn every_switch_is_known_by_what_it_works() {
        for (worked, switch) in AUTOMATIC {
            assert!(is_switch(switch) && !is_switch(worked));
            assert_eq!(switch_of(worked), Some(switch));
        }
        assert_eq!(switch_of(USER + 1), None);
    }
}
