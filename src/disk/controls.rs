//! The camera's controls for programs (JSON) and for people (a page). Pure.
//!
//! The page is one small form a control and works without JavaScript; `www/controls.js` sends each
//! change at once. Names are the driver's, and are shown and nothing else.

use std::borrow::Cow;

use askama::Template;
use serde::Serialize;

use super::photos::{JSON, in_language, whole};
use super::site::Page;
use crate::control::{Control, Kind, Listing};
use crate::error::{Error, Result};
use crate::http::page::{Place, Shell};
use crate::http::phrases::Lang;

/// A camera's controls as they are shown, and to a program told.
#[derive(Debug, Serialize)]
pub struct Panel {
    #[serde(flatten)]
    pub listing: Listing,
    /// Why what is set cannot be saved. Bound: a sentence of the code's.
    pub trouble: Option<String>,
    /// Which camera, counted from 0, of how many.
    #[serde(skip)]
    pub camera: usize,
    #[serde(skip)]
    pub cameras: usize,
    /// Folders that the page's address is below the site's start.
    #[serde(skip)]
    pub depth: usize,
}

/// The controls, as a `page` or for a program.
pub fn answer(panel: &Panel, page: bool, lang: Lang) -> Result<Page> {
    let failed = |reason| Error::found("write", "the controls", reason);
    Ok(match page {
        true => {
            let page = html(panel, lang).map_err(|error| failed(error.to_string()))?;
            in_language(page, lang)
        }
        false => {
            let told = serde_json::to_vec(panel);
            whole(JSON, told.map_err(|error| failed(error.to_string()))?)
        }
    })
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<div class="sight"><img id="sight" src="{{ root }}video_feed/{{ panel.camera + 1 }}"
  alt="{{ lang.say("Live picture of the camera") }}"></div>
<div class="knobs">
<h1>{{ lang.say("Controls") }}</h1>
{% if panel.cameras > 1 -%}
<nav class="pages" aria-label="{{ lang.say("Camera") }}">
{% for n in 1..=panel.cameras -%}
<a class="button" href="{{ root }}controls/{{ n }}"
  {%- if n == panel.camera + 1 %} aria-current="page"{% endif %}>
{{- lang.fill("Camera {}", [n.to_string().as_str()]) }}</a>
{% endfor -%}
</nav>
{% endif -%}
{% if let Some(camera) = panel.listing.camera -%}
<p class="soft">{{ camera }}</p>
{% endif -%}
{% if let Some(reason) = panel.listing.reason -%}
<p>{{ lang.sentence(reason) }}</p>
{% endif -%}
<p id="trouble" class="said trouble"{% if panel.trouble.is_none() %} hidden{% endif %}>
{%- if let Some(trouble) = panel.trouble %}{{ lang.sentence(trouble) }}{% endif %}</p>
<p id="said" class="said" role="status" data-lost="{{ lang.say("Connection lost") }}" hidden></p>
{% for group in groups() -%}
<section>
<h2>{{ lang.sentence(group[0].class) }}</h2>
{% for control in group -%}
{{ knob(control)|safe }}
{% endfor -%}
</section>
{% endfor -%}
{% if !panel.listing.controls.is_empty() -%}
<form class="all change" method="post">
<button class="button" name="reset" value="all">{{ lang.say("Reset all") }}</button>
</form>
{% endif -%}
</div>
"#
)]
struct ControlsPage<'a> {
    panel: &'a Panel,
    root: &'a str,
    lang: Lang,
}

/// One control.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<form id="c{{ control.id }}" method="post"
  {%- if control.kind == Kind::Button %} class="change"{% endif %}>
<fieldset{% if !control.settable %} disabled{% endif %}>
<input type="hidden" name="id" value="{{ control.id }}">
{% if control.kind == Kind::Button -%}
<button class="button" name="value" value="1">{{ name }}</button>
{%- else -%}
<label for="v{{ control.id }}">{{ name }}</label>
{%- endif %}
<small data-state="inactive"{% if !control.inactive %} hidden{% endif %}>
{{- lang.say("inactive") }}</small>
<small data-state="grabbed"{% if !control.grabbed %} hidden{% endif %}>
{{- lang.say("in use") }}</small>
{% if control.read_only -%}
<small>{{ lang.say("only to be read") }}</small>
{% endif -%}
{% match control.kind -%}
{% when Kind::Boolean -%}
<input type="hidden" name="value" value="0">
<input id="v{{ control.id }}" type="checkbox" role="switch" name="value" value="1"
  {%- if value == "1" %} checked{% endif %}>
{% when Kind::Menu | Kind::IntegerMenu -%}
<select id="v{{ control.id }}" name="value">
{% for item in control.menu -%}
<option value="{{ item.value }}"{% if value == item.value.to_string() %} selected{% endif %}>
{{- lang.sentence(item.name) }}</option>
{% endfor -%}
</select>
{% when Kind::Integer | Kind::Integer64 -%}
<input id="v{{ control.id }}" type="number" name="value" value="{{ value }}" required
  min="{{ control.minimum }}" max="{{ control.maximum }}" step="{{ control.step }}">
{% if slides() -%}
<input type="range" aria-label="{{ name }}" value="{{ value }}" hidden
  min="{{ control.minimum }}" max="{{ control.maximum }}" step="{{ control.step }}">
{% endif -%}
{% when Kind::Bitmask -%}
<input id="v{{ control.id }}" name="value" value="{{ value }}" required spellcheck="false">
{% when Kind::String -%}
<input id="v{{ control.id }}" name="value" value="{{ value }}" spellcheck="false"
  minlength="{{ control.minimum }}" maxlength="{{ control.maximum }}">
{% when Kind::Button -%}
{% when Kind::Compound -%}
<output id="v{{ control.id }}">{{ lang.say("not to be set here") }}</output>
{% endmatch -%}
{% if is_writable() -%}
<p class="change"><button class="button">{{ lang.say("Set") }}</button>
{% if control.default.is_some() -%}
<button class="button" name="reset" value="1" formnovalidate
  title="{{ lang.say("Reset") }}" aria-label="{{ lang.fill("Reset {}", [name.as_ref()]) }}"
  {%- if !is_resettable() %} hidden{% endif %}>↺</button>
{% endif -%}
</p>
{% endif -%}
</fieldset>
</form>"#
)]
struct Knob<'a> {
    control: &'a Control,
    /// As the visitor reads it. Bound: the kernel's name, 32 bytes, or the code's.
    name: Cow<'a, str>,
    /// As a field holds it. Bound: `CONTROL_TEXT_BYTES_MAX`.
    value: String,
    lang: Lang,
}

impl ControlsPage<'_> {
    /// Those under the same heading together, in the driver's order.
    fn groups(&self) -> Vec<&[Control]> {
        self.panel.listing.controls.chunk_by(|one, next| one.class == next.class).collect()
    }

    fn knob<'k>(&self, control: &'k Control) -> Knob<'k> {
        let value = match (control.kind, &control.value) {
            (Kind::Bitmask, Some(value)) => control.in_words(value),
            (_, Some(value)) => value.to_string(),
            (_, None) => String::new(),
        };
        Knob { control, name: self.lang.sentence(&control.name), value, lang: self.lang }
    }
}

/// Steps that a slider can still tell apart, more or less.
const SLIDER_STEPS: i128 = 100_000;

impl Knob<'_> {
    fn slides(&self) -> bool {
        let Control { minimum, maximum, .. } = self.control;
        (1..=SLIDER_STEPS).contains(&(i128::from(*maximum) - i128::from(*minimum)))
    }

    /// Whether it ever has a value that can be set.
    fn is_writable(&self) -> bool {
        !self.control.read_only && !matches!(self.control.kind, Kind::Button | Kind::Compound)
    }

    /// Whether there is anything to be reset.
    fn is_resettable(&self) -> bool {
        self.control.kept || self.control.value != self.control.default
    }
}

fn html(panel: &Panel, lang: Lang) -> std::result::Result<String, askama::Error> {
    let root = &*"../".repeat(panel.depth);
    let content = ControlsPage { panel, root, lang }.render()?;
    let (title, place) = (lang.say("Controls"), Place::Aside);
    let files = &["gallery.css", "controls.css", "controls.js"];
    Shell { lang, title, root, place, kind: "controls", files, content: &content }.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Choice, Value};

    fn control(id: u32, name: &str, kind: Kind) -> Control {
        let value = Some(Value::Number(1)).filter(|_| kind != Kind::Button);
        let sample = Control::sample(id, name, kind, &[(0, "Disabled"), (1, "<50>")]);
        Control { value: value.clone(), default: value, ..sample }
    }

    fn panel(controls: Vec<Control>) -> Panel {
        let listing =
            Listing { camera: Some("/dev/video0 (Rig)".to_owned()), reason: None, controls };
        Panel { listing, trouble: None, camera: 0, cameras: 1, depth: 0 }
    }

    #[track_caller]
    fn page(panel: &Panel, lang: Lang) -> String {
        html(panel, lang).unwrap()
    }

    /// The form of one control.
    #[track_caller]
    fn form(control: Control) -> String {
        let id = format!("<form id=\"c{}\"", control.id);
        let page = page(&panel(vec![control]), Lang::English);
        let form = page.split(&id).nth(1).and_then(|rest| rest.split("</form>").next());
        form.unwrap_or_else(|| panic!("no form: {page}")).to_owned()
    }

    #[track_caller]
    fn expect(form: &str, parts: &[&str]) {
        for part in parts {
            assert!(form.contains(part), "no {part}: {form}");
        }
    }

    #[test]
    fn each_kind_has_its_field() {
        let knob = |kind| control(7, "Knob", kind);
        let number = "type=\"number\" name=\"value\" value=\"1\" required\n  min=\"0\" max=\"9\"";
        let range = "type=\"range\" aria-label=\"Knob\" value=\"1\" hidden";
        expect(&form(knob(Kind::Integer)), &[number, range, "for=\"v7\">Knob</label>", ">Set<"]);
        let wide = Control { maximum: i64::MAX, minimum: i64::MIN, ..knob(Kind::Integer64) };
        assert!(!form(wide).contains("range"), "no slider has so many places");
        let hidden = "<input type=\"hidden\" name=\"value\" value=\"0\">";
        let switch = "role=\"switch\" name=\"value\" value=\"1\" checked>";
        expect(&form(knob(Kind::Boolean)), &[hidden, switch]);
        let option = "<option value=\"1\" selected>&#60;50&#62;</option>";
        expect(&form(knob(Kind::Menu)), &["<option value=\"0\">Disabled</option>", option]);
        expect(&form(knob(Kind::IntegerMenu)), &[option]);
        expect(&form(knob(Kind::Bitmask)), &["name=\"value\" value=\"0x00000001\""]);
        let text = Some(Value::Text("a\"b".to_owned()));
        let text = Control { value: text, ..knob(Kind::String) };
        expect(&form(text), &["value=\"a&#34;b\"", "minlength=\"0\" maxlength=\"9\""]);
        let button = form(knob(Kind::Button));
        expect(&button, &["name=\"value\" value=\"1\">Knob</button>"]);
        assert!(!button.contains("reset") && !button.contains("label"), "{button}");
        let compound = Control { settable: false, default: None, ..knob(Kind::Compound) };
        expect(&form(compound), &["<fieldset disabled>", "not to be set here"]);
    }

    #[test]
    fn a_knob_shows_how_it_stands() {
        let knob = || control(7, "Knob", Kind::Integer);
        let states = |control| {
            let form = form(control);
            let shown = |state: &str| !form.contains(&format!("{state}\" hidden>"));
            let reset = !form.contains("aria-label=\"Reset Knob\" hidden>");
            (form.contains("disabled"), shown("inactive"), shown("grabbed"), reset)
        };
        assert_eq!(states(knob()), (false, false, false, false));
        assert_eq!(states(Control { kept: true, ..knob() }), (false, false, false, true));
        let moved = Control { value: Some(Value::Number(2)), ..knob() };
        assert_eq!(states(moved), (false, false, false, true));
        let inactive = Control { inactive: true, settable: false, ..knob() };
        assert_eq!(states(inactive), (true, true, false, false));
        let grabbed = Control { grabbed: true, settable: false, ..knob() };
        assert_eq!(states(grabbed), (true, false, true, false));
        let fixed = form(Control { read_only: true, settable: false, ..knob() });
        expect(&fixed, &["disabled", "only to be read", "value=\"1\""]);
        assert!(!fixed.contains("<button"), "{fixed}");
    }

    #[test]
    fn controls_stand_under_their_headings_in_the_visitors_language() {
        let mut all = panel(vec![
            control(1, "Brightness", Kind::Integer),
            control(2, "Unheard-of", Kind::Boolean),
            control(3, "Auto Exposure", Kind::Menu),
        ]);
        all.listing.controls[2].class = "Camera Controls".to_owned();
        let english = page(&all, Lang::English);
        expect(&english, &["<h2>User Controls</h2>", "<h2>Camera Controls</h2>", ">Reset all<"]);
        assert_eq!(english.matches("<section>").count(), 2);
        expect(&english, &["<p class=\"soft\">/dev/video0 (Rig)</p>", "id=\"said\""]);
        let chinese = page(&all, Lang::Chinese);
        expect(
            &chinese,
            &[">亮度</label>", ">Unheard-of</label>", "<h2>镜头与曝光</h2>", ">关闭</"],
        );
        let trouble = "What is set here will be lost at the end: the disk is full.";
        all.trouble = Some(trouble.to_owned());
        let troubled = page(&all, Lang::Chinese);
        expect(&troubled, &["这里的设置在程序结束后会丢失：磁盘已满。</p>"]);
        let reason = Some("The test picture has no controls.".to_owned());
        all.listing = Listing { camera: None, reason, controls: vec![] };
        let none = page(&all, Lang::Chinese);
        expect(&none, &["测试画面没有可调参数。"]);
        assert!(!none.contains("Reset") && !none.contains("<section>"));
    }

    #[test]
    fn a_program_reads_what_the_driver_tells() {
        let one = Control { kind: Kind::IntegerMenu, ..control(9, "a\"<b>", Kind::Menu) };
        let (response, _) = answer(&panel(vec![one]), false, Lang::English).unwrap();
        let told: serde_json::Value = serde_json::from_str(&response.text()).unwrap();
        assert_eq!(told["camera"], "/dev/video0 (Rig)");
        let control = &told["controls"][0];
        assert_eq!(control["name"], "a\"<b>");
        assert_eq!((&control["type"], &control["id"]), (&"integer_menu".into(), &9.into()));
        assert_eq!(control["menu"][1]["value"], 1);
        assert_eq!(
            (&told["trouble"], &told["reason"]),
            (&serde_json::Value::Null, &told["trouble"])
        );
    }

    /// A driver's names that try to break out.
    #[test]
    fn names_cannot_break_out() {
        let bad = "\"'><script>x</script><img src=x onerror=x>";
        let kinds = [Kind::Integer, Kind::Boolean, Kind::Menu, Kind::Button, Kind::Compound];
        let mut all = panel(kinds.map(|kind| control(1, bad, kind)).to_vec());
        all.listing.camera = Some(bad.to_owned());
        all.listing.reason = Some(bad.to_owned());
        all.trouble = Some(bad.to_owned());
        for control in &mut all.listing.controls {
            control.class = bad.to_owned();
            control.menu.push(Choice { value: 5, name: bad.to_owned() });
            control.value = Some(Value::Text(bad.to_owned()));
        }
        let page = page(&all, Lang::Chinese);
        assert_eq!(page.matches("<script").count(), 1, "our own: {page}");
        // The site's and the camera's picture.
        assert_eq!(page.matches("<img").count(), 2, "{page}");
        for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            let names = tag.split('"').step_by(2).collect::<String>();
            assert!(!names.contains(" on") && !names.contains("style="), "<{tag}>");
        }
    }
}
