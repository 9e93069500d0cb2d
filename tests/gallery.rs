//! The pages about photos, and what all pages promise, in a real browser: choosing, deleting,
//! keeping, downloading, leafing, by mouse, finger and keyboard, with scripts and without;
//! both languages, all screens, and pages of other sites that try to press our buttons.
//!
//! Screenshots are kept in `target/screenshots/`, for eyes that judge what a test cannot.

mod util;

#[path = "util/browser.rs"]
mod browser;

use std::path::PathBuf;

use serde_json::json;

use browser::{
    Browser, DELETE, DESKTOP, DOWN, ENTER, ESCAPE, LEFT, PHONE, PHONE_ON_ITS_SIDE, RIGHT,
    SMALL_PHONE, Screen, TAB, open_live, page, photos, post, start, take_photo, wait_for_state,
};
use util::{Folder, PATIENCE, Server, decode, until};

/// Many photos at once: copies of a real one, with names of different seconds; the newest first.
#[track_caller]
fn fill(server: &Server, count: usize) -> Vec<String> {
    let photo = take_photo(server);
    let file = server.folder().path().join("pic").join(&photo);
    let bytes = std::fs::read(&file).expect("a photo");
    std::fs::remove_file(file).expect("only the copies stay");
    for n in 0..count {
        let (minute, second) = (n / 60, n % 60);
        let name = format!("pic/2026-01-02_03-{minute:02}-{second:02}.jpg");
        server.folder().write(&name, &bytes);
    }
    photos(server)
}

#[track_caller]
fn open_gallery(browser: &Browser, server: &Server, screen: Screen) {
    browser.set_screen(screen);
    browser.open(&page(server, "gallery"));
}

/// The names of the photos on the gallery's page.
#[track_caller]
fn shown(browser: &Browser) -> Vec<String> {
    let names = "return Array.from(document.querySelectorAll('.grid input'), box => box.value)";
    serde_json::from_value(browser.eval(names)).expect("names")
}

#[track_caller]
fn expect_said(browser: &Browser, sentence: &str) {
    browser.wait(&format!("document.querySelector('.said')?.textContent === '{sentence}'"));
    assert_eq!(browser.eval("return document.querySelector('.said').role"), "status");
}

/// A photo's box in the gallery.
fn tick_box(name: &str) -> String {
    format!(".grid input[value='{name}']")
}

/// A photo's time as people read it, by its name.
fn taken(name: &str) -> String {
    let (day, time) = name.trim_end_matches(".jpg").split_once('_').expect("a photo's name");
    format!("{day} {}", time.replace('-', ":"))
}

const KEEP: &str = "[formaction$='gallery/keep'][value='1']";
const STOP_KEEPING: &str = "[formaction$='gallery/keep'][value='0']";
/// On a photo's own page: the one of the two that makes sense.
const KEEP_OR_NOT: &str = ".bar [name=keep]";
const DOWNLOAD: &str = ".bar [formaction$='gallery/archive']";
const DELETE_BUTTON: &str = ".confirm [formaction$='gallery/delete']";

// ---- the gallery ----------------------------------------------------------------------------

#[test]
fn photos_are_selected_by_click_and_deleted_after_a_second_look() {
    let (server, browser) = start();
    for _ in 0..5 {
        take_photo(&server);
    }
    let all = photos(&server);
    open_gallery(&browser, &server, DESKTOP);
    assert_eq!(shown(&browser), all, "the newest first");
    browser.wait("document.querySelector('.grid img').naturalWidth > 0");
    browser.click(".confirm summary");
    assert_eq!(browser.text(DELETE_BUTTON), "", "nothing is selected, nothing to be deleted");

    browser.click(&tick_box(&all[0]));
    browser.click(".grid li:nth-child(3) label span"); // its date, not the box
    browser.click(&tick_box(&all[4]));
    assert_eq!(browser.text("#choice output"), "3 selected");
    browser.click(".confirm summary");
    assert_eq!(browser.text(".confirm p"), "Deleted photos cannot be brought back.");
    assert_eq!(browser.text(DELETE_BUTTON), "Delete 3 photos");
    browser.save("gallery-confirm-desktop");
    browser.click("h1");
    assert_eq!(browser.text(DELETE_BUTTON), "", "a click elsewhere closes the question");
    assert_eq!(photos(&server).len(), 5, "nothing is deleted without the second look");
    browser.click(".confirm summary");
    browser.click(DELETE_BUTTON);
    expect_said(&browser, "3 photos deleted.");
    let left = vec![all[1].clone(), all[3].clone()];
    assert_eq!(shown(&browser), left);
    assert_eq!(photos(&server), left);

    browser.eval("location.reload()");
    browser.wait("!document.querySelector('.said')");
    browser.click("#all");
    browser.click(".confirm summary");
    browser.click(DELETE_BUTTON);
    expect_said(&browser, "2 photos deleted.");
    assert_eq!(browser.text("main p:not(.said)"), "There are no photos yet.");
    browser.eval("location.reload()");
    browser.wait("!document.querySelector('.said')"); // nor is it said again of an empty gallery
    browser.click("main form button");
    browser.wait_for_page("current_picture");
    assert_eq!(photos(&server).len(), 1);
    browser.expect_no_complaints();
}

#[test]
fn photos_are_marked_to_be_kept_and_the_mark_is_shown_and_removed() {
    let (server, browser) = start();
    let all = fill(&server, 3);
    open_gallery(&browser, &server, PHONE);
    let kept = || {
        let names = "return Array.from(document.querySelectorAll('.grid li:has(b)'),
            tile => [tile.querySelector('input').value, tile.querySelector('b').textContent])";
        browser.eval(names)
    };
    assert_eq!(kept(), json!([]));
    browser.click(&tick_box(&all[0]));
    browser.click(&tick_box(&all[1]));
    browser.save("gallery-chosen-phone");
    browser.click(KEEP);
    expect_said(&browser, "2 photos are kept from now on.");
    assert_eq!(kept(), json!([[all[0], "Kept"], [all[1], "Kept"]]));
    browser.click(&tick_box(&all[1]));
    browser.click(STOP_KEEPING);
    expect_said(&browser, "1 photo is no longer kept.");
    assert_eq!(kept(), json!([[all[0], "Kept"]]));
    open_gallery(&browser, &server, PHONE);
    assert_eq!(kept(), json!([[all[0], "Kept"]]), "it lasts");
}

#[test]
fn shift_selects_a_range_and_one_box_selects_all() {
    let (server, browser) = start();
    let all = fill(&server, 9);
    open_gallery(&browser, &server, DESKTOP);
    let chosen = || {
        let chosen = browser.eval(
            "return Array.from(document.querySelectorAll('.grid :checked'), box => box.value)",
        );
        serde_json::from_value::<Vec<String>>(chosen).expect("names")
    };
    let all_box = || {
        browser.eval(
            "const all = document.getElementById('all');
        return [all.checked, all.indeterminate]",
        )
    };
    browser.click(&tick_box(&all[1]));
    browser.shift_click(&tick_box(&all[5]));
    assert_eq!(chosen(), all[1..=5]);
    assert_eq!(all_box(), json!([false, true]));
    browser.shift_click(&tick_box(&all[3]));
    assert_eq!(chosen(), all[1..3], "backwards, and off again");
    browser.click(&tick_box(&all[8]));
    assert_eq!(browser.text("#choice output"), "3 selected");
    browser.click("#all");
    assert_eq!(chosen(), all);
    assert_eq!(all_box(), json!([true, false]));
    browser.press(ESCAPE);
    assert_eq!(chosen(), [""; 0]);
    browser.shift_click(".grid li:nth-child(4) label span");
    assert_eq!(chosen().last(), Some(&all[8].clone()), "from the last one that was clicked");
    assert_eq!(browser.eval("return String(getSelection())"), "", "no text is marked");
}

/// The names in a ZIP archive; each file must be that photo, byte for byte.
#[track_caller]
fn names_in_archive(server: &Server, archive: PathBuf) -> Vec<String> {
    let bytes = std::fs::read(&archive).expect("the archive");
    let archive = rawzip::ZipArchive::from_slice(&bytes).expect("a ZIP archive");
    let mut entries = archive.entries();
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().expect("an entry") {
        let name = entry.file_path().try_normalize().expect("a plain name").as_ref().to_owned();
        let file = std::fs::read(server.folder().path().join("pic").join(&name)).expect("a photo");
        let inside = archive.get_entry(entry.wayfinder()).expect("its bytes");
        assert!(inside.data() == file, "{name} is not as it was");
        names.push(name);
    }
    names
}

#[test]
fn the_selected_photos_or_all_come_as_one_file() {
    let (server, browser) = start();
    let all = fill(&server, 4);
    open_gallery(&browser, &server, DESKTOP);
    for (box_, button, expect) in [
        (Some(1), DOWNLOAD, vec![&all[1]]),
        (Some(3), DOWNLOAD, vec![&all[1], &all[3]]),
        (None, ".all button", all.iter().collect()),
    ] {
        let folder = Folder::new();
        browser.save_files_to(&folder);
        if let Some(n) = box_ {
            browser.click(&tick_box(&all[n]));
        }
        browser.click(button);
        let mut names = names_in_archive(&server, browser.saved_file(&folder, ".zip"));
        names.sort_by(|a, b| b.cmp(a));
        assert_eq!(names.iter().collect::<Vec<_>>(), expect);
    }
    let label = "Download all 4 photos";
    assert_eq!(browser.text(".all button"), label);
    assert_eq!(browser.text("#choice output"), "2 selected", "the page stayed as it was");
    browser.expect_no_complaints();
}

#[track_caller]
fn tab_to(browser: &Browser, selector: &str) {
    for _ in 0..30 {
        browser.press(TAB);
        if browser.eval(&format!("return document.activeElement.matches({selector:?})")) == true {
            let outline = "return getComputedStyle(document.activeElement).outlineStyle";
            assert_eq!(browser.eval(outline), "solid", "one sees where the focus is");
            return;
        }
    }
    panic!("the keyboard does not reach {selector}");
}

#[test]
fn everything_in_the_gallery_is_done_by_the_keyboard_alone() {
    let (server, browser) = start();
    let all = fill(&server, 6);
    open_gallery(&browser, &server, DESKTOP);
    browser.press(TAB);
    assert_eq!(browser.text(":focus"), "Skip to the content");
    browser.press(ENTER);
    browser.wait("document.activeElement.id === 'content'");
    tab_to(&browser, &tick_box(&all[0]));
    browser.press(' ');
    browser.press(RIGHT);
    browser.press(RIGHT);
    browser.press(' ');
    assert_eq!(browser.text("#choice output"), "2 selected");
    browser.press(LEFT);
    assert_eq!(browser.eval("return document.activeElement.value"), all[1]);
    browser.press(DELETE);
    assert_eq!(browser.text(":focus"), "Delete 2 photos");
    browser.press(ESCAPE);
    assert_eq!(browser.text(":focus"), "Delete…", "back where the question came from");
    assert_eq!(browser.text(DELETE_BUTTON), "");
    assert_eq!(browser.text("#choice output"), "2 selected", "one thing at a time");
    browser.press(DELETE);
    browser.press(ENTER);
    expect_said(&browser, "2 photos deleted.");
    let left = [&all[1..2], &all[3..]].concat();
    assert_eq!(photos(&server), left);

    tab_to(&browser, &tick_box(&left[0]));
    browser.press(DELETE);
    assert_eq!(browser.text(DELETE_BUTTON), "", "nothing is selected");
    browser.press(' ');
    tab_to(&browser, KEEP);
    browser.press(ENTER);
    expect_said(&browser, "1 photo is kept from now on.");
    browser.set_screen(Screen { width: 500, ..DESKTOP }); // rows of three
    tab_to(&browser, ".grid a");
    browser.press(DOWN);
    let below = "return document.activeElement.closest('li').querySelector('input').value";
    assert_eq!(browser.eval(below), left[3]);
    browser.press(ENTER);
    browser.wait_for_page(&format!("view/{}", left[3]));
    browser.press(DELETE);
    assert_eq!(browser.text(":focus"), "Delete this photo");
    browser.press(ENTER);
    expect_said(&browser, "1 photo deleted.");
    assert_eq!(photos(&server), left[..3]);
}

#[test]
fn many_photos_stand_on_pages_of_sixty() {
    let (server, browser) = start();
    let all = fill(&server, 130);
    open_gallery(&browser, &server, PHONE);
    let position = || browser.text(".pages span");
    assert_eq!((shown(&browser), position()), (all[..60].to_vec(), "Page 1 of 3".into()));
    assert!(browser.text("h1 + p").ends_with("free."), "{}", browser.text("h1 + p"));
    assert!(browser.text("h1 + p").contains(" used by 130 photos."));
    let loaded = "return Array.from(document.querySelectorAll('.grid img'))
        .filter(img => img.complete && img.naturalWidth).length";
    browser.wait(&format!("(() => {{ {loaded} }})() > 0"));
    assert!(browser.eval(loaded).as_u64() < Some(60), "those far below wait");
    browser.click(".pages [rel=next]");
    browser.wait_for_page("gallery?page=2");
    assert_eq!((shown(&browser), position()), (all[60..120].to_vec(), "Page 2 of 3".into()));
    browser.click(".pages a:last-child");
    browser.wait_for_page("gallery?page=3");
    assert_eq!((shown(&browser), position()), (all[120..].to_vec(), "Page 3 of 3".into()));

    // With the last page's photos the page goes too.
    browser.click("#all");
    browser.click(".confirm summary");
    browser.click(DELETE_BUTTON);
    expect_said(&browser, "10 photos deleted.");
    assert_eq!((shown(&browser), position()), (all[60..120].to_vec(), "Page 2 of 2".into()));
    browser.click(&tick_box(&all[60]));
    browser.click(KEEP);
    expect_said(&browser, "1 photo is kept from now on.");
    assert_eq!(position(), "Page 2 of 2", "where one was");
    browser.click(".pages [rel=prev]");
    browser.wait_for_page("gallery?page=1");
    assert_eq!(shown(&browser), all[..60]);
}

#[test]
fn a_photo_that_another_tab_deleted_was_already_gone() {
    let (server, browser) = start();
    let all = fill(&server, 3);
    let delete_first = || {
        browser.click(&tick_box(&all[0]));
        browser.click(".confirm summary");
        browser.click(DELETE_BUTTON);
    };
    open_gallery(&browser, &server, DESKTOP);
    let first_tab = browser.cover();
    open_gallery(&browser, &server, DESKTOP);
    delete_first();
    expect_said(&browser, "1 photo deleted.");
    browser.uncover(&first_tab);
    assert_eq!(shown(&browser), all, "an old page");
    delete_first();
    expect_said(&browser, &format!("{} was already gone.", all[0]));
    assert_eq!(shown(&browser), all[1..]);

    browser.open(&page(&server, &format!("view/{}", all[1])));
    let first_tab = browser.cover();
    browser.open(&page(&server, &format!("view/{}", all[1])));
    for tab in [None, Some(first_tab)] {
        if let Some(tab) = &tab {
            browser.uncover(tab);
        }
        browser.click(".confirm summary");
        browser.click(DELETE_BUTTON);
        let gone = format!("{} was already gone.", all[1]);
        expect_said(&browser, if tab.is_some() { &gone } else { "1 photo deleted." });
    }
    assert_eq!(photos(&server), all[2..]);
}

// ---- one photo ------------------------------------------------------------------------------

#[test]
fn one_leafs_through_the_photos_by_key_by_link_and_by_finger() {
    let (server, browser) = start();
    let all = fill(&server, 4);
    let view = |n: usize| format!("view/{}", all[n]);
    let expect = |n: usize| {
        browser.wait_for_page(&view(n));
        assert_eq!(browser.text("h1"), taken(&all[n]));
        browser.wait("document.querySelector('.photo img').naturalWidth === 640");
    };
    open_gallery(&browser, &server, DESKTOP);
    browser.click(&format!(".grid a[href='{}'] img", view(1)));
    expect(1);
    let bytes = std::fs::metadata(server.folder().path().join("pic").join(&all[1])).unwrap().len();
    let size = format!("{:.0} kB", bytes as f64 / 1000.0);
    assert_eq!(browser.text(".about p"), size);
    browser.press(RIGHT);
    expect(2);
    browser.press(LEFT);
    expect(1);
    browser.press(LEFT);
    expect(0);
    assert_eq!(browser.text(".about p"), format!("{size} · The newest photo"));
    browser.press(LEFT); // there is none newer
    browser.click("[rel=next]");
    expect(1);
    browser.click("[rel=prev]");
    expect(0);

    browser.set_screen(PHONE);
    browser.swipe([320.0, 400.0], [60.0, 410.0]);
    expect(1);
    browser.swipe([320.0, 400.0], [60.0, 410.0]);
    expect(2);
    browser.swipe([60.0, 400.0], [320.0, 390.0]);
    expect(1);
    browser.swipe([200.0, 200.0], [140.0, 600.0]); // down, not aside
    browser.swipe([200.0, 400.0], [180.0, 400.0]); // hardly a swipe
    browser.click("[rel=next]");
    expect(2);
    browser.press(RIGHT);
    expect(3);
    let links = "return Array.from(document.querySelectorAll('.photo nav a'), link => link.rel)";
    assert_eq!(browser.eval(links), json!(["prev"]), "there is none older");
    browser.expect_no_complaints();
    browser.click(".photo > a");
    browser.wait(&format!("location.pathname === '/pic/{}'", all[3]));
}

#[test]
fn a_photo_is_kept_saved_and_deleted_on_its_own_page() {
    let (server, browser) = start();
    let all = fill(&server, 3);
    browser.set_screen(PHONE);
    browser.open(&page(&server, &format!("view/{}", all[1])));
    assert_eq!(browser.text(KEEP_OR_NOT), "Keep");
    browser.click(KEEP_OR_NOT);
    browser.wait("document.querySelector('.about b')?.textContent === 'Kept'");
    browser.wait_for_page(&format!("view/{}", all[1]));
    assert_eq!(browser.text(KEEP_OR_NOT), "Stop keeping");
    browser.click(KEEP_OR_NOT);
    browser.wait("!document.querySelector('.about b')");

    let folder = Folder::new();
    browser.save_files_to(&folder);
    browser.click(".bar [download]");
    let file = std::fs::read(browser.saved_file(&folder, &all[1])).expect("the file");
    assert_eq!(decode(&file).0, 640);

    browser.click(".confirm summary");
    assert_eq!(browser.text(DELETE_BUTTON), "Delete this photo");
    browser.save("view-confirm-phone");
    browser.press(ESCAPE);
    assert_eq!(browser.text(DELETE_BUTTON), "");
    browser.press(DELETE);
    browser.click(DELETE_BUTTON);
    expect_said(&browser, "1 photo deleted.");
    let left = vec![all[0].clone(), all[2].clone()];
    assert_eq!((shown(&browser), photos(&server)), (left.clone(), left));
    browser.expect_no_complaints();
}

// ---- without JavaScript, and interval photos ------------------------------------------------

#[test]
fn everything_about_photos_works_without_javascript() {
    let (server, browser) = start();
    browser.set_scripts(false);
    browser.set_screen(PHONE);
    browser.open(&page(&server, ""));
    browser.click("#photo");
    browser.wait_for_page("current_picture");
    let photo = photos(&server).remove(0);
    assert_eq!(browser.text("h1"), taken(&photo));
    fill(&server, 61);
    let mut all = photos(&server);
    assert_eq!(all[0], photo);
    let leaf = |link: &str, to: &str| {
        browser.click(link);
        browser.wait_for_page(to);
    };

    leaf("nav a[href='gallery']", "gallery");
    assert_eq!(shown(&browser), all[..60]);
    assert_eq!(browser.text("#choice"), "", "no dead box");
    leaf(".pages [rel=next]", "gallery?page=2");
    leaf(".pages [rel=prev]", "gallery?page=1");
    leaf(&format!(".grid a[href='view/{}'] img", all[0]), &format!("view/{}", all[0]));
    leaf("[rel=next]", &format!("view/{}", all[1]));
    browser.click(KEEP_OR_NOT);
    browser.wait("document.querySelector('.about b')");
    browser.click(".confirm summary");
    browser.click(DELETE_BUTTON);
    expect_said(&browser, "1 photo deleted.");
    all.remove(1);
    assert_eq!((shown(&browser), photos(&server)), (all[..60].to_vec(), all.clone()));

    for name in &all[3..5] {
        browser.click(&tick_box(name));
    }
    browser.click(KEEP);
    expect_said(&browser, "2 photos are kept from now on.");
    browser.click(&tick_box(&all[2]));
    browser.click(&tick_box(&all[3]));
    browser.click(".confirm summary");
    assert_eq!(browser.text(DELETE_BUTTON), "Delete the selected photos");
    browser.save("gallery-no-script-phone");
    browser.click(DELETE_BUTTON);
    expect_said(&browser, "2 photos deleted.");
    all.drain(2..4);
    assert_eq!(photos(&server), all);

    // Nothing is selected: each button says so, and does nothing.
    for button in [DOWNLOAD, DELETE_BUTTON] {
        browser.open(&page(&server, "gallery"));
        if button == DELETE_BUTTON {
            browser.click(".confirm summary");
        }
        browser.click(button);
        expect_said(&browser, "No photo was selected.");
    }
    assert_eq!(photos(&server), all);
    let folder = Folder::new();
    browser.save_files_to(&folder);
    browser.click(&tick_box(&all[5]));
    browser.click(DOWNLOAD);
    assert_eq!(names_in_archive(&server, browser.saved_file(&folder, ".zip")), [all[5].clone()]);

    leaf("nav a[href='./']", "");
    leaf("#interval", "interval");
    browser.click("main form button");
    browser.wait("document.querySelector('[name=stop]')");
    assert_eq!(browser.text(".said b"), "A photo every 5 minutes, until stopped.");
    browser.click("[name=stop]");
    browser.wait("!document.querySelector('[name=stop]')");
    browser.expect_no_complaints();
}

#[test]
fn interval_photos_are_started_counted_before_ones_eyes_and_stopped() {
    let (server, browser) = start();
    open_live(&browser, &server, PHONE);
    browser.click("#interval");
    browser.wait_for_page("interval");
    browser.save("interval-phone");
    browser.click("[name=every] option[value='5s']");
    browser.click("[name=until] option[value='8h']");
    browser.click("main form button");
    browser.wait("document.querySelector('.said')");
    let said = browser.text(".said b");
    assert!(said.starts_with("A photo every 5 seconds, until 20"), "{said}");
    browser.eval("window.still_here = true");
    let first = browser.text(".said p:last-child");
    browser.wait(&format!(
        "/^[0-9]+ photos? saved[.]$/.test(document.querySelector('.said p:last-child').textContent)
         && document.querySelector('.said p:last-child').textContent !== '{first}'"
    ));
    assert_eq!(browser.eval("return window.still_here"), true, "the page did not blink");
    browser.save("interval-running-phone");
    assert!(!photos(&server).is_empty());

    browser.click("[name=stop]");
    browser.wait("!document.querySelector('[name=stop]')");
    assert_eq!(server.get("/interval").expect(200).text(), "null");
    browser.open(&page(&server, "gallery"));
    assert_eq!(shown(&browser), photos(&server));
    browser.expect_no_complaints();
}

// ---- every page -----------------------------------------------------------------------------

/// Two servers on which every kind of page is to be seen.
struct Sites {
    /// Photos on two pages, interval photos, notes.
    full: Server,
    /// No photos, and no room for any; no notes.
    empty: Server,
    /// A photo on the full one, with neighbours on both sides.
    photo: String,
}

/// A page: what it is called here, its server, its path.
type Page<'a> = (&'static str, &'a Server, String);

impl Sites {
    #[track_caller]
    fn start() -> Sites {
        let sites = Sites {
            full: Server::start(&["--camera", "test"]),
            empty: Server::start(&["--camera", "test", "--keep-free", "9000T"]),
            photo: "2026-01-02_03-00-30.jpg".to_owned(),
        };
        fill(&sites.full, 61);
        let kept = "2026-01-02_03-00-58.jpg";
        post(&sites.full, "gallery/keep", &format!("name={kept}&name={}", sites.photo)).expect(303);
        post(&sites.full, "interval", "every=24h&until=48h").expect(200);
        sites.full.folder().write("md/2.md", "# 1\n\n| 1 | 2 |\n|---|---|\n| [3](4) | `5` |\n");
        sites
    }

    /// All pages that a link leads to, and an error.
    fn pages(&self) -> Vec<Page<'_>> {
        let outcome = "gallery?page=1&deleted=2&missing=2026-01-02_03-04-05.jpg".to_owned();
        let full = [
            ("live", String::new()),
            ("gallery", "gallery".to_owned()),
            ("gallery-last", "gallery?page=2".to_owned()),
            ("gallery-outcome", outcome),
            ("view", format!("view/{}", self.photo)),
            ("current", "current_picture".to_owned()),
            ("interval-running", "interval".to_owned()),
            ("status", "status".to_owned()),
            ("controls", "controls".to_owned()),
            ("notes", "md/".to_owned()),
            ("note", "md/2".to_owned()),
            ("error", "3/4".to_owned()),
        ];
        let empty = [
            ("gallery-empty", "gallery".to_owned()),
            ("current-empty", "current_picture".to_owned()),
            ("interval-idle", "interval".to_owned()),
            ("notes-empty", "md/".to_owned()),
        ];
        let full = full.into_iter().map(|(name, path)| (name, &self.full, path));
        full.chain(empty.into_iter().map(|(name, path)| (name, &self.empty, path))).collect()
    }

    /// A photo that the disk has no room for: the error that a form leads to.
    #[track_caller]
    fn open_refusal(&self, browser: &Browser) {
        browser.open(&page(&self.empty, "gallery"));
        browser.click("main form button");
        browser.wait_for_page("photo");
    }
}

#[track_caller]
fn open_page(browser: &Browser, (name, server, path): &Page) {
    browser.open(&page(server, path));
    if *name == "live" {
        wait_for_state(browser, "live");
    }
}

#[test]
fn every_page_speaks_the_visitors_language_and_no_other() {
    // Words of the other language in what one sees, hears or meets with the pointer. Names, units
    // and what is written for the machine are the same in all languages.
    let words = |foreign: &str| {
        format!(
            "const seen = [document.title];
             const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
             while (texts.nextNode())
                 if (texts.currentNode.parentElement.checkVisibility())
                     seen.push(texts.currentNode.data);
             for (const element of document.querySelectorAll('body *'))
                 for (const name of ['title', 'aria-label', 'alt', 'placeholder'])
                     seen.push(element.getAttribute(name) || '');
             const same =
                 /pistream|Markdown|--[a-z-]+|\\.(jpg|md)|[kMGT]?B\\b|[(（][A-Z←→][)）]/g;
             return seen.map(text => text.replace(same, '').trim()).filter(text => {foreign})"
        )
    };
    let english_left = words("/[A-Za-z]/.test(text)");
    let chinese_left = words("/[^\\0-\\u2fff]/.test(text)");
    let (sites, browser) = (Sites::start(), Browser::start());
    browser.set_screen(PHONE);
    let mut seen = 0;
    for (languages, tag, left) in
        [("zh-CN,zh,en", "zh-CN", &english_left), ("de-CH,de,en", "en", &chinese_left)]
    {
        browser.set_languages(languages);
        let mut expect = |name: &str| {
            assert_eq!(browser.eval(left), json!([]), "{tag}: {name}");
            assert_eq!(browser.eval("return document.documentElement.lang"), tag, "{name}");
            seen += 1;
        };
        for found in sites.pages() {
            open_page(&browser, &found);
            expect(found.0);
            match found.0 {
                "live" => {
                    browser.wait("document.querySelectorAll('#stats span').length === 3");
                    browser.press('c');
                    expect("live, with its numbers");
                }
                "gallery" => {
                    browser.click(".grid input");
                    browser.click(".confirm summary");
                    expect("gallery, with a question");
                    browser.save(&format!("gallery-{tag}-phone"));
                }
                "view" => {
                    browser.click(".confirm summary");
                    expect("view, with a question");
                }
                _ => {}
            }
        }
        sites.open_refusal(&browser);
        expect("no room");
        let sentence = browser.text("main p");
        assert!(sentence.contains("--keep-free"), "{sentence}");
        browser.open(&page(&sites.empty, ""));
        browser.press('p');
        browser.wait("document.getElementById('toast').textContent");
        assert_eq!(browser.text("#toast"), sentence);
        expect("no room, on the live page");

        browser.open(&page(&sites.empty, "interval"));
        browser.click("main form button");
        browser.wait("document.querySelector('[name=stop]')");
        let failed = || {
            let interval = sites.empty.get("/interval").expect(200).text();
            (!interval.contains("\"trouble\":null")).then_some(())
        };
        assert!(until(PATIENCE, failed).is_some(), "the disk has no room for them");
        browser.open(&page(&sites.empty, "interval"));
        assert_ne!(browser.text(".trouble"), "");
        expect("interval photos that fail");
        browser.click("[name=stop]");
        browser.wait("!document.querySelector('[name=stop]')");
    }
    assert!(seen > 40, "{seen}");
}

/// What of a page does not fit: the page itself is wider than the screen, or something reaches
/// beyond it, or a text is cut off, or what one has to hit is too small for the screen.
const FAULTS: &str = "
    const faults = [], phone = navigator.maxTouchPoints > 0;
    const name = element => element.outerHTML.slice(0, 120);
    const page = document.scrollingElement;
    if (page.scrollWidth > innerWidth) faults.push('scrolls to ' + page.scrollWidth);
    for (const element of document.querySelectorAll('body *')) {
        const r = element.getBoundingClientRect();
        const seen = element.checkVisibility() && r.width && r.height;
        if (!seen || element.closest('.note table, .note pre, svg, .skip')
            || element.closest('.brand') && getComputedStyle(element.closest('.brand')).clipPath !== 'none') continue;
        if (r.left < -.5 || r.right > innerWidth + .5)
            faults.push(`from ${r.left} to ${r.right}: ` + name(element));
        const inline = getComputedStyle(element).display === 'inline';
        const target = element.matches('a, button, summary, select, label, input') && !inline;
        if (!target || element.closest('label') && element.localName === 'input') continue;
        if (element.scrollWidth > element.clientWidth + 1) faults.push('cut off: ' + name(element));
        const main = element.matches('.button, select, header a, #tools *');
        if (r.width < 24 || r.height < (main && phone ? 44 : 24))
            faults.push(`${r.width} x ${r.height}: ` + name(element));
    }
    return faults;";

#[test]
fn every_page_fits_every_screen_by_day_and_by_night() {
    let (sites, browser) = (Sites::start(), Browser::start());
    let screens = [
        ("small-phone", SMALL_PHONE),
        ("phone", PHONE),
        ("phone-on-its-side", PHONE_ON_ITS_SIDE),
        ("desktop", DESKTOP),
    ];
    for found in sites.pages() {
        open_page(&browser, &found);
        for (name, screen) in screens {
            browser.set_screen(screen);
            assert_eq!(browser.eval(FAULTS), json!([]), "{} on {screen:?}", found.0);
            if !["phone", "desktop"].contains(&name) {
                continue;
            }
            for dark in [false, true] {
                browser.set_screen(Screen { dark, ..screen });
                let ground = browser.pixels([2.0, 2.0, 4.0, 4.0]).at(1, 1);
                assert_eq!(ground.iter().all(|part| *part < 64), dark, "{}: {ground:?}", found.0);
                // The live page is pictured elsewhere; the others say the same by day and night.
                if ["gallery", "view"].contains(&found.0) || (found.0 != "live" && !dark) {
                    let theme = if dark { "dark" } else { "light" };
                    browser.save(&format!("{}-{name}-{theme}", found.0));
                }
            }
        }
    }
    // The bar with all its buttons, and the question.
    for path in ["gallery".to_owned(), format!("view/{}", sites.photo)] {
        browser.open(&page(&sites.full, &path));
        if path == "gallery" {
            browser.click(".grid input");
        }
        browser.click(".confirm summary");
        for (_, screen) in screens {
            browser.set_screen(screen);
            assert_eq!(browser.eval(FAULTS), json!([]), "{path} on {screen:?}");
            let [_, y, _, height] = browser.rectangle(".confirm > div");
            assert!(y >= 0.0 && y + height <= screen.height.into(), "{path} on {screen:?}");
        }
    }
}

#[test]
fn nothing_that_a_visitor_sends_becomes_part_of_a_page() {
    const EVIL: &str = "\"'><evil onload=evil()></title><script>evil()</script>${evil()}";
    let (server, browser) = start();
    fill(&server, 2);
    browser.cdp("Emulation.setUserAgentOverride", json!({"userAgent": EVIL}));
    let evil: String = url::form_urlencoded::byte_serialize(EVIL.as_bytes()).collect();
    let evil = evil.replace('+', "%20");
    let fields = ["page", "deleted", "missing", "failed", "kept", "unkept"];
    let mut paths: Vec<String> =
        fields.iter().map(|field| format!("gallery?{field}={evil}")).collect();
    paths.push(format!("gallery?page=1&deleted=1&missing={evil}&failed={evil}"));
    for folder in ["", "view/", "pic/", "thumb/", "md/", "gallery/"] {
        paths.push(format!("{folder}{evil}"));
    }
    for query in ["video_feed?fps", "snapshot?max_age", "?action", "status?x", "interval?every"] {
        paths.push(format!("{query}={evil}"));
    }
    browser.requests();
    for path in &paths {
        browser.open(&page(&server, path));
        let found = browser.eval(
            "const page = document.documentElement;
             return [!!window.evil, document.querySelectorAll('evil, script:not([src])').length,
                 page.outerHTML.includes('<evil'), page.outerText.includes('evil')]",
        );
        assert_eq!(found, json!([false, 0, false, false]), "{path}");
    }
    // A form that was tampered with.
    browser.open(&page(&server, "gallery"));
    browser.eval(&format!(
        "document.querySelector('.grid input').value = {};",
        serde_json::to_string(EVIL).unwrap()
    ));
    browser.click(".grid input");
    browser.click(KEEP);
    browser.wait_for_page("gallery/keep");
    assert_eq!(browser.text("main p"), "A name in the form is not that of a photo.");
    // What cannot be read is said of in the console by the browser itself, and no more.
    for entry in browser.log("browser") {
        assert!(entry["message"].to_string().contains("Failed to load resource"), "{entry}");
    }
    expect_own_requests(&browser, &[&server]);
}

/// Nothing was asked of anybody else.
#[track_caller]
fn expect_own_requests(browser: &Browser, servers: &[&Server]) {
    let asked = browser.requests();
    assert!(asked.len() > 20, "the pages were opened");
    let sites: Vec<String> = servers.iter().map(|server| page(server, "")).collect();
    for url in &asked {
        let own = sites.iter().any(|site| url.starts_with(site) || url.starts_with("blob:"));
        assert!(own, "{url}");
    }
}

#[test]
fn no_page_asks_another_host_or_has_anything_to_complain_of() {
    let (sites, browser) = (Sites::start(), Browser::start());
    browser.requests(); // those of the browser's own first page
    for found in sites.pages().iter().filter(|found| found.0 != "error") {
        open_page(&browser, found);
        browser.wait("document.readyState === 'complete' || document.querySelector('#picture')");
        browser.expect_no_complaints();
    }
    expect_own_requests(&browser, &[&sites.full, &sites.empty]);
    assert_eq!(sites.full.complaints(), [""; 0]);
}

#[test]
fn the_pages_files_are_built_into_the_program() {
    let (server, folder) = (Server::start(&["--camera", "test"]), env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("{folder}/www")).expect("www/").flatten() {
        let name = entry.file_name().into_string().expect("a plain name");
        let file = std::fs::read(entry.path()).expect("a file");
        assert!(server.get(&format!("/{name}")).expect(200).body == file, "{name} differs");
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
    assert_eq!(server.get("/").body, server.get("/index.html").body);
}

// ---- pages of other sites -------------------------------------------------------------------

#[test]
fn a_page_of_another_site_can_show_the_stream_but_press_no_button_and_frame_no_page() {
    let (server, browser) = start();
    let before = fill(&server, 3);
    let (camera, photo) = (page(&server, ""), &before[0]);
    // Another port is another origin.
    let www = Folder::new();
    let form = |id: &str, path: &str, fields: &str| {
        format!(
            "<form method=post action='{camera}{path}'>{fields}<button id={id}>x</button></form>"
        )
    };
    let named = format!("<input name=name value={photo}>");
    www.write(
        "index.html",
        [
            "<!doctype html><title>x</title>".to_owned(),
            // Of a fixed size: the buttons must not move away under the click when it comes.
            format!("<img id=stream width=640 height=480 src='{camera}video_feed'>"),
            form("photo", "photo", ""),
            form("delete", "gallery/delete", &named),
            form("keep", "gallery/keep", &named),
            form("interval", "interval", "<input name=every value=5s>"),
        ]
        .concat(),
    );
    let frame = |of: &str| format!("<!doctype html><title>x</title><iframe src='{of}'></iframe>");
    www.write("frame.html", frame(&format!("{camera}gallery")));
    www.write("own.html", frame("gallery"));
    let other = Server::start(&["--camera", "test", "--www", www.arg()]);

    browser.open(&page(&other, ""));
    browser.wait("document.getElementById('stream').naturalWidth === 640");
    for (button, path) in [
        ("photo", "photo"),
        ("delete", "gallery/delete"),
        ("keep", "gallery/keep"),
        ("interval", "interval"),
    ] {
        browser.open(&page(&other, ""));
        browser.click(&format!("#{button}"));
        browser.wait(&format!("location.href === '{camera}{path}'"));
        assert_eq!(browser.text("main p"), "Only pages of this site may do that.", "{button}");
        server.wait_for_log(&format!("POST /{path} 403"), PATIENCE);
    }
    browser.open(&page(&other, ""));
    let scripts = format!(
        "return Promise.all([
             fetch('{camera}photo', {{ method: 'POST', mode: 'no-cors' }}),
             fetch('{camera}pic/{photo}', {{ method: 'DELETE' }}).catch(() => 0),
             fetch('{camera}status').then(() => 'read', () => 'unread'),
         ]).then(all => all[2])"
    );
    assert_eq!(browser.eval(&scripts), "unread");
    assert_eq!(photos(&server), before, "saved or deleted by a stranger");
    assert!(!server.folder().path().join("pic/.keep").exists(), "marked by a stranger");
    assert_eq!(server.get("/interval").expect(200).text(), "null");

    // A frame that another site could lay its own pictures over.
    let framed = |path: &str| {
        browser.open(&page(&other, path));
        browser.wait("document.readyState === 'complete'");
        let tree = browser.cdp("Page.getFrameTree", json!({}));
        tree["frameTree"]["childFrames"][0]["frame"]["url"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(framed("own.html"), page(&other, "gallery"), "its own it may frame");
    let strange = framed("frame.html");
    assert!(strange.starts_with("chrome-error:"), "{strange}");
    server.wait_for_log("GET /gallery 200", PATIENCE); // it was the browser that refused
}

// ---- axe ------------------------------------------------------------------------------------

#[test]
fn axe_finds_nothing_that_keeps_anybody_out() {
    if !util::long() {
        return;
    }
    let (sites, browser) = (Sites::start(), Browser::start());
    for found in sites.pages() {
        open_page(&browser, &found);
        browser.expect_open_to_all(found.0);
        if ["gallery", "view"].contains(&found.0) {
            if found.0 == "gallery" {
                browser.click(".grid input");
            }
            browser.click(".confirm summary");
            browser.expect_open_to_all(&format!("{}, with a question", found.0));
        }
    }
    open_live(&browser, &sites.full, PHONE);
    browser.press('c');
    browser.press('p');
    browser.wait("document.querySelector('#toast img')?.naturalWidth > 0");
    browser.expect_open_to_all("live, with the clock and a photo");
    sites.open_refusal(&browser);
    browser.expect_open_to_all("no room for a photo");
}
