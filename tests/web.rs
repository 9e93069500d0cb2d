//! Pages of other sites against this one, in a real browser: they press no button in whatever way,
//! show no page of ours, read no picture, and gain nothing by a name of theirs that leads here. What
//! stands in files and comes from visitors runs nothing, and no cache keeps what is private.
//!
//! What the site's own pages do with hostile queries and forms, `gallery.rs` shows; names of
//! controls, `controls.rs`; `Host` and CORS by the byte, `server.rs` and `access.rs`.

mod util;

#[path = "util/browser.rs"]
mod browser;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use browser::{Browser, page, photos, start, take_photo};
use util::{Folder, PATIENCE, Reply, Server, Stream, until};

/// A name that does not belong to this site.
const EVIL: &str = "evil.example";

/// Another site, with this for its page.
#[track_caller]
fn evil_site(html: &str) -> Server {
    let server = Server::start(&["--camera", "test", "--host-name", EVIL]);
    let html = format!("<!doctype html><title>x</title><body>{html}");
    server.folder().write("www/index.html", html);
    server
}

/// The address of a server's start by another name of this machine.
fn site(server: &Server, name: &str) -> String {
    format!("http://{name}:{}/", server.addr().port())
}

// ---- buttons --------------------------------------------------------------------------------

/// What a page can do to have its visitor's browser send something somewhere: `press` in each way
/// that sends a POST, `look` in each that sends a GET, and what a browser would have to ask for
/// first.
const PRESSES: &str = "<script>
let count = 0;
const make = (kind, fields) => Object.assign(document.createElement(kind), fields);
const framed = fields => document.body.appendChild(make('iframe', { name: `f${count++}`, ...fields }));
const inputs = body => [...new URLSearchParams(body)].map(([name, value]) =>
    make('input', { name, value }));
function form(url, body, enctype) {
    const form = make('form', { method: 'post', action: url, enctype, target: framed().name });
    form.append(...inputs(body));
    document.body.append(form);
    form.submit();
}
function sandboxed(url, body) {
    const form = make('form', { method: 'post', action: url });
    form.append(...inputs(body).map(input => (input.setAttribute('value', input.value), input)));
    const frame = framed();
    frame.sandbox = 'allow-forms allow-scripts';
    frame.srcdoc = form.outerHTML + '<script>document.forms[0].submit()<' + '/script>';
}
function press(url, body) {
    const data = new URLSearchParams(body);
    for (const kind of ['application/x-www-form-urlencoded', 'multipart/form-data', 'text/plain'])
        form(url, body, kind);
    sandboxed(url, body);
    const send = more => fetch(url, { method: 'POST', body: data, ...more }).catch(() => 0);
    send({ mode: 'no-cors', credentials: 'include' });
    send({ mode: 'no-cors', referrerPolicy: 'no-referrer' });
    send({ mode: 'no-cors', keepalive: true });
    send({ mode: 'cors' });
    const request = new XMLHttpRequest();
    request.open('POST', url);
    request.send(data);
    navigator.sendBeacon(url, data);
}
function look(url) {
    document.body.append(make('img', { src: url }), make('script', { src: url }),
        make('link', { rel: 'stylesheet', href: url }));
    framed({ src: url });
    fetch(url, { mode: 'no-cors' }).catch(() => 0);
}
function ask(url, body) {
    fetch(url, { method: 'DELETE' }).catch(() => 0);
    fetch(url, { method: 'POST', headers: { 'X-HTTP-Method-Override': 'DELETE' }, body })
        .catch(() => 0);
    fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
        .catch(() => 0);
}
</script>";
/// POSTs that one `press` sends.
const PRESSES_EACH: usize = 10;

/// The last words of the log's lines about requests of this method: path and status.
fn requests(server: &Server, from: usize, method: &str) -> Vec<String> {
    let log = server.log();
    let lines = log[from..].lines().filter(|line| line.contains(" 127.0.0.1:"));
    let found = lines.filter_map(|line| line.split_once(&format!(" {method} /")));
    found.map(|(_, rest)| rest.to_owned()).collect()
}

#[test]
fn a_page_of_another_site_presses_no_button_in_any_way_a_browser_has() {
    // To an address that it trusts a browser says where a request comes from; to a name in a home
    // network, without TLS, it says no more than the origin.
    let names = ["127.0.0.1", "camera.lan"];
    let browser = Browser::start_with_names(&[EVIL, "camera.lan"]);
    let (evil, server) = (evil_site(PRESSES), Server::start(&["--camera", "test"]));
    let photo = take_photo(&server);
    server.wait_for_log("POST /photo 201", PATIENCE); // the last that is pressed
    let (named, kept) = (format!("name={photo}"), format!("name={photo}&keep=1"));
    let buttons = [
        ("photo", ""),
        ("gallery/delete", named.as_str()),
        ("gallery/keep", kept.as_str()),
        ("gallery/archive", named.as_str()),
        ("interval", "every=1s"),
        ("controls", "id=9963776&value=1"),
    ];
    for name in names {
        let camera = site(&server, name);
        let from = server.log().len();
        browser.open(&site(&evil, EVIL));
        for (path, body) in buttons {
            browser.eval(&format!(
                "press('{camera}{path}', '{body}');
                 look('{camera}{path}?{body}');
                 ask('{camera}{path}', '{body}');"
            ));
        }
        browser.eval(&format!("ask('{camera}pic/{photo}', '')"));
        let all = PRESSES_EACH * buttons.len();
        let pressed = || requests(&server, from, "POST");
        let waited = until(PATIENCE, || (pressed().len() >= all).then_some(()));
        assert!(waited.is_some(), "{} of {all}: {:#?}", pressed().len(), pressed());
        for line in pressed() {
            assert!(line.ends_with(" 403"), "{name}: POST /{line}");
        }
        // Asked for leave, and not given it.
        let asked = until(PATIENCE, || {
            (requests(&server, from, "OPTIONS").len() > 2 * buttons.len()).then_some(())
        });
        assert!(asked.is_some(), "{:?}", requests(&server, from, "OPTIONS"));
        assert_eq!(requests(&server, from, "DELETE"), [""; 0], "{name}");
    }
    assert_eq!(photos(&server), [photo], "saved or deleted by a stranger");
    assert!(!server.folder().path().join("pic/.keep").exists(), "marked by a stranger");
    assert_eq!(server.get("/interval").expect(200).text(), "null");
}

// ---- frames and pictures --------------------------------------------------------------------

/// The addresses that frames of the page were to show, and those that they show.
fn frames(browser: &Browser) -> (BTreeSet<String>, BTreeSet<String>) {
    let tree = browser.cdp("Page.getFrameTree", json!({}));
    let children = tree["frameTree"]["childFrames"].as_array().cloned().unwrap_or_default();
    let field = |name: &str| {
        let value = |child: &Value| child["frame"][name].as_str().map(str::to_owned);
        children.iter().filter_map(value).collect()
    };
    (field("unreachableUrl"), field("url"))
}

/// A frame that another site could lay its own pictures over.
#[test]
fn no_page_is_shown_in_a_frame_of_another_site() {
    let (server, browser) = start();
    let photo = take_photo(&server);
    server.folder().write("md/note.md", "# Note");
    let view = format!("view/{photo}");
    let pages = [
        "",
        "index.html",
        "gallery",
        "current_picture",
        &view,
        "interval",
        "status",
        "controls",
        "md/",
        "md/note",
        "nothing",
        "photo",
        "gallery/delete",
    ];
    let ours: BTreeSet<String> = pages.iter().map(|path| page(&server, path)).collect();
    let evil = evil_site("");
    let own = page(&evil, "status");
    browser.open(&page(&evil, ""));
    for url in ours.iter().chain([&own]) {
        browser.eval(&format!(
            "document.body.append(Object.assign(document.createElement('iframe'), {{ src: '{url}' }}))"
        ));
    }
    let done = || {
        let (refused, shown) = frames(&browser);
        (refused == ours && shown.contains(&own)).then_some(shown)
    };
    let shown = until(PATIENCE, done).unwrap_or_else(|| panic!("{:#?}", frames(&browser)));
    assert!(shown.is_disjoint(&ours), "{shown:?}");
    // In other elements that hold pages.
    browser.open(&page(&evil, ""));
    let gallery = page(&server, "gallery");
    browser.eval(&format!(
        "document.body.innerHTML = \"<object data='{gallery}'></object><embed src='{gallery}'>\""
    ));
    let asked = || (server.log().matches("GET /gallery 200").count() >= 3).then_some(());
    assert!(until(PATIENCE, asked).is_some(), "{}", server.log());
    assert!(!frames(&browser).1.contains(&gallery), "{:?}", frames(&browser));
}

/// What a page gets of a site: by script, by a canvas that it drew a picture on, as a script.
const READS: &str = "<script>
const make = (kind, fields) => Object.assign(document.createElement(kind), fields);
const read = url => fetch(url).then(answer => (answer.body.cancel(), answer.type), () => 'refused');
const opaque = url => fetch(url, { mode: 'no-cors' })
    .then(answer => answer.body ? (answer.body.cancel(), 'body') : answer.type, () => 'refused');
const shown = (url, fields) => new Promise(done => {
    const image = make('img', { ...fields, onerror: () => done(), src: url });
    document.body.append(image);
    const look = () => image.complete && image.naturalWidth ? done(image) : setTimeout(look, 20);
    look();
});
function pixels(source) {
    const page = document.createElement('canvas').getContext('2d');
    page.drawImage(source, 0, 0);
    try { return page.getImageData(0, 0, 1, 1).data.length } catch (error) { return error.name }
}
async function drawn(url) {
    const image = await shown(url);
    let copy;
    while (!copy) // between two pictures of a stream there is none
        copy = await createImageBitmap(image).catch(() => new Promise(done => setTimeout(done, 20)));
    const asked = await shown(url, { crossOrigin: 'anonymous' });
    const found = [pixels(image), pixels(copy), asked ? pixels(asked) : 'refused'];
    image.src = '';
    return found;
}
const script = url => new Promise(done => document.head.append(make('script', {
    onload: () => done('run'), onerror: () => done('refused'), src: url })));
const sizes = url => performance.getEntriesByName(url).every(entry => !entry.encodedBodySize);
</script>";

#[test]
fn a_page_of_another_site_reads_no_picture_and_no_page() {
    let browser = Browser::start_with_names(&[EVIL]);
    let (evil, server) = (evil_site(READS), Server::start(&["--camera", "test"]));
    let photo = take_photo(&server);
    let own_photo = take_photo(&evil);
    let pictures = |photo: &str| {
        ["video_feed", "snapshot", "pic/", "thumb/"].map(|path| match path {
            path if path.ends_with('/') => format!("{path}{photo}"),
            path => path.to_owned(),
        })
    };
    browser.open(&site(&evil, EVIL));
    let tell = |function: &str, url: &str| browser.eval(&format!("return {function}('{url}')"));
    for (from, photo, own) in
        [(site(&evil, EVIL), &own_photo, true), (site(&server, "127.0.0.1"), &photo, false)]
    {
        let expect = |own_value: Value, other: Value| if own { own_value } else { other };
        for path in pictures(photo) {
            let url = format!("{from}{path}");
            let found = tell("drawn", &url);
            let tainted = json!(["SecurityError", "SecurityError", "refused"]);
            assert_eq!(found, expect(json!([4, 4, 4]), tainted), "{url}");
        }
        let pages = ["status", "metrics", "gallery", "", "interval"].map(str::to_owned);
        for path in pages.into_iter().chain(pictures(photo)) {
            let url = format!("{from}{path}");
            assert_eq!(tell("read", &url), expect(json!("basic"), json!("refused")), "{url}");
            assert_eq!(tell("opaque", &url), expect(json!("body"), json!("opaque")), "{url}");
            if !own {
                assert_eq!(tell("sizes", &url), true, "{url}");
            }
        }
    }
    let other = site(&server, "127.0.0.1");
    for path in ["status", "metrics", "gallery", "interval", "snapshot"] {
        assert_eq!(tell("script", &format!("{other}{path}")), "refused", "{path}");
    }
    // Only what is the same for everybody is a script.
    assert_eq!(tell("script", &format!("{other}fresh.js")), "run");
}

/// DNS rebinding: the page's own name, whose address was changed to this machine's. For the
/// browser, this site is then the page's own, and it adds what it sends with such requests.
#[test]
fn a_name_of_somebody_else_that_leads_here_gains_nothing() {
    let browser = Browser::start_with_names(&[EVIL]);
    let server = Server::start(&["--camera", "test"]);
    let named = Server::start(&["--camera", "test", "--host-name", EVIL]);
    let ask = |server: &Server| {
        browser.open(&site(server, EVIL));
        browser.eval(
            "const ask = (path, method) => fetch(path, { method }).then(answer => answer.status);
             return Promise.all([ask('status', 'GET'), ask('snapshot', 'GET'), ask('gallery', 'GET'),
                 ask('app.js', 'GET'), ask('photo', 'POST'), ask('pic/x.jpg', 'DELETE')])",
        )
    };
    // If the name were the site's, all would be there.
    assert_eq!(ask(&named), json!([200, 200, 200, 200, 201, 404]));
    assert_eq!(ask(&server), json!(vec![421; 6]));
    let told = browser.text("main p");
    assert!(told.contains("not known by that name"), "{told}");
    let stream = "return new Promise(done => Object.assign(new Image(),
        { onload: () => done('seen'), onerror: () => done('nothing'), src: 'video_feed' }))";
    assert_eq!(browser.eval(stream), "nothing");
    assert_eq!(photos(&server), [""; 0]);
    // By its address the site is there as ever.
    browser.open(&page(&server, "gallery"));
    assert_eq!(browser.eval("return fetch('status').then(answer => answer.status)"), 200);
}

// ---- what stands in files, and comes from visitors ------------------------------------------

/// Names of files and folders.
const NAMES: [&str; 8] = [
    "\"><img src=x onerror=window.pwned=1>",
    "'onmouseover='window.pwned=1",
    "javascript:window.pwned=1",
    "${window.pwned=1}",
    "{{window.pwned=1}}",
    "&lt;img src=x onerror=window.pwned=1&gt;",
    "x onfocus=window.pwned=1 autofocus",
    "<svg onload=window.pwned=1>",
];

const NOTE: &str = r#"# <img src=x onerror="window.pwned=1"> &lt;script&gt;window.pwned=1&lt;/script&gt;

<script>window.pwned=1</script>
<svg onload="window.pwned=1"></svg>
<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>
<details open ontoggle="window.pwned=1"><summary>x</summary></details>
<base href="http://evil.example/"> <meta http-equiv=refresh content="0;url=javascript:window.pwned=1">
<form action="javascript:window.pwned=1"><button>x</button></form> <style>@import 'x'</style>

Inline <b onclick="window.pwned=1">html</b>, <img/src=x/onerror=window.pwned=1>, <!--><img src=x onerror=window.pwned=1>-->

[a](javascript:window.pwned=1) [b](JaVaScRiPt:window.pwned=1) [c](java&#115;cript:window.pwned=1)
[d](<java	script:window.pwned=1>) [e](data:text/html,<script>window.pwned=1</script>) [f](vbscript:x)
[g](&#1;javascript:window.pwned=1) [h](javascript&colon;window.pwned=1) [i](\javascript:window.pwned=1)
[j](x "title\" onmouseover=\"window.pwned=1") [k](x" onmouseover="window.pwned=1) [l](//evil.example "x")
<javascript:window.pwned=1> [m][r] ![n](javascript:window.pwned=1) ![o](x" onerror="window.pwned=1)
![p](x 'title" onerror="window.pwned=1') ![" onerror="window.pwned=1](x) ![q](data:image/svg+xml,<svg/onload=window.pwned=1>)

[r]: javascript:window.pwned=1

| <img src=x onerror="window.pwned=1"> | b |
|---|---|
| [x](javascript:window.pwned=1) | `<img src=x onerror="window.pwned=1">` |

```html" onmouseover="window.pwned=1
<script>window.pwned=1</script>
```

Footnote[^"><img src=x onerror=window.pwned=1>].

[^"><img src=x onerror=window.pwned=1>]: <script>window.pwned=1</script>
"#;

/// Each byte as a page's address may have it.
fn hexed(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A site full of them, and the paths of all its pages.
#[track_caller]
fn infested() -> (Server, Vec<String>) {
    let server = Server::start(&["--camera", "test"]);
    let photo = take_photo(&server);
    let mut paths: Vec<String> =
        ["md/", "md/note", "gallery", "current_picture", "status", "interval", "controls", ""]
            .map(str::to_owned)
            .into();
    paths.push(format!("view/{photo}"));
    let folder = server.folder();
    folder.write("md/note.md", NOTE);
    let jpeg = fs::read(folder.path().join("pic").join(&photo)).expect("a photo");
    for name in NAMES {
        folder.write(&format!("md/{name}.md"), format!("# {name}\n\n{name}\n"));
        folder.write(&format!("md/{name}/{name}.md"), NOTE);
        folder.write(&format!("pic/{name}.jpg"), &jpeg);
        folder.write(&format!("pic/2026-01-02_03-04-05{name}.jpg"), &jpeg);
        let name = hexed(name);
        paths.extend(["", ".md", "/", "/%23"].map(|end| format!("md/{name}{end}")));
        paths.extend([format!("md/{name}/{name}"), format!("view/{name}.jpg"), name]);
    }
    (server, paths)
}

/// What of the page that is open could run something: elements and fields.
const RUNNING: &str = "const odd = 'iframe, base, style, meta[http-equiv], script:not([src])';
    const runs = field => /^on/i.test(field.name)
        || /^(href|src|action|formaction|data)$/i.test(field.name)
            && /^[^a-z]*(javascript|vbscript|data):/i.test(field.value);
    return [...document.querySelectorAll('*')]
        .filter(element => element.matches(odd) || [...element.attributes].some(runs))
        .map(element => element.outerHTML)";

#[test]
fn what_others_wrote_runs_nothing_though_the_browser_would_let_it() {
    let (server, paths) = infested();
    // A viewer whose program has such a name, and who comes from there.
    let head =
        format!("Host: pi\r\nUser-Agent: {0}\r\nReferer: {0}\r\nX-Forwarded-For: {0}", NAMES[0]);
    let mut stream =
        Stream::ask(server.addr(), &format!("GET /video_feed HTTP/1.1\r\n{head}\r\n\r\n"));
    stream.part();
    let browser = Browser::start();
    // Without the policy's help: nothing may be there that it would have to stop.
    browser.cdp("Page.enable", json!({}));
    browser.cdp("Page.setBypassCSP", json!({"enabled": true}));
    for path in &paths {
        browser.open(&page(&server, path));
        assert_eq!(browser.eval(RUNNING), json!([]), "{path}");
        browser.eval(
            "for (const element of document.querySelectorAll('main *'))
                 for (const kind of ['mouseover', 'focus', 'load', 'error', 'toggle'])
                     element.dispatchEvent(new Event(kind, { bubbles: true }))",
        );
        assert_eq!(browser.eval("return window.pwned ?? null"), Value::Null, "{path}");
    }
    // Each is there as text, and as a link to what has that name.
    browser.open(&page(&server, "md/"));
    let texts = "return Array.from(document.querySelectorAll('.list a'), link => link.textContent)";
    let texts: BTreeSet<String> = serde_json::from_value(browser.eval(texts)).expect("names");
    let names = NAMES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}/")]);
    let names: BTreeSet<String> = names.chain(["note".to_owned()]).collect();
    assert_eq!(texts, names);
    browser.open(&page(&server, "gallery"));
    let photos = "return document.querySelectorAll('.grid input').length";
    assert_eq!(browser.eval(photos), 1, "only names of ours are shown");
    // The trap itself works.
    browser.eval(
        "document.querySelector('main').innerHTML = '<img src=x onerror=\"window.pwned=1\">'",
    );
    browser.wait("window.pwned === 1");
}

/// Such a file is shown in a note as a picture, and may be opened by itself.
#[test]
fn a_file_beside_the_notes_runs_nothing_when_it_is_opened_by_itself() {
    let (server, browser) = start();
    let folder = server.folder();
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'
        onload='window.pwned=1'><script>window.pwned=1</script></svg>";
    let html = "<!doctype html><title>x</title><script>window.pwned=1</script>
        <body onload='window.pwned=1'><img src=x onerror='window.pwned=1'>";
    let files =
        [("a.svg", svg), ("a.html", html), ("a.htm", html), ("a.xhtml", svg), ("a.xml", svg)];
    for (name, text) in files {
        folder.write(&format!("md/{name}"), text);
        folder.write(&format!("www/{name}"), text);
    }
    folder.write("md/note.md", "![x](a.svg)");
    for (name, _) in files {
        browser.open(&page(&server, &format!("md/{name}")));
        browser.wait("document.readyState === 'complete'");
        let found = browser.eval("return [window.pwned ?? null, window.origin]");
        assert_eq!(found, json!([null, "null"]), "{name}");
    }
    browser.open(&page(&server, "md/note"));
    browser.wait("document.querySelector('main img').naturalWidth === 8");
    // Pages of the site's owner are as he wrote them.
    browser.open(&page(&server, "a.html"));
    browser.wait("window.pwned === 1");
}

#[test]
fn what_got_into_a_page_all_the_same_would_not_run() {
    let (server, browser) = start();
    let photo = take_photo(&server);
    server.folder().write("md/note.md", "# Note");
    let pages = ["", "gallery", "current_picture", "interval", "status", "controls", "md/"];
    let pages = pages.map(str::to_owned).into_iter();
    for path in pages.chain(["md/note".into(), "nothing".into(), format!("view/{photo}")]) {
        browser.open(&page(&server, &path));
        browser.eval(
            "const main = document.querySelector('main');
             main.insertAdjacentHTML('beforeend', `<img src=x onerror='window.pwned=1'>
                 <a id=evil href='javascript:window.pwned=1'>x</a>
                 <form id=away action='http://evil.example/'></form>`);
             main.lastElementChild.previousElementSibling.click();
             const script = document.createElement('script');
             script.textContent = 'window.pwned=1';
             main.append(script);
             main.append(Object.assign(document.createElement('script'),
                 { src: 'data:text/javascript,window.pwned=1' }));
             main.querySelector('img[src=x]').addEventListener('error', () => window.tried = 1);
             main.querySelector('#away').submit();",
        );
        browser.wait("window.tried === 1");
        let state = browser.eval("return [window.pwned ?? null, location.href]");
        assert_eq!(state, json!([null, page(&server, &path)]), "{path}");
        let said = browser.log("browser");
        let refused = said.iter().filter(|entry| {
            entry["message"].as_str().is_some_and(|text| text.contains("Content Security Policy"))
        });
        assert!(refused.count() >= 4, "{path}: {said:#?}");
    }
}

// ---- caches ---------------------------------------------------------------------------------

/// anna:secret
const ANNA: &str = "Authorization: Basic YW5uYTpzZWNyZXQ=\r\n";
/// What RFC 9111, section 3.5, would let a shared cache keep though a password was sent.
const SHARED: [&str; 3] = ["public", "s-maxage", "must-revalidate"];

#[test]
fn with_passwords_no_shared_cache_keeps_an_answer_and_no_copy_opens_the_door() {
    let folder = Folder::new();
    let hash = bcrypt::hash("secret", 4).expect("a hash");
    let file = folder.write("passwords", format!("anna:{hash}\n")).display().to_string();
    let server = Server::start(&["--camera", "test", "--password-file", &file]);
    server.folder().write("md/note.md", "# Note");
    server.folder().write("md/picture.png", "no picture");
    server.folder().write("www/page.html", "page");
    let request = |line: &str, fields: &str| -> Reply {
        let fields = format!("Host: pi\r\nContent-Length: 0\r\nConnection: close\r\n{fields}");
        server.ask(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes())
    };
    let photo = request("POST /photo", ANNA).expect(201);
    assert_eq!(photo.header("Cache-Control"), Some("no-store"));
    let photo: Value = serde_json::from_slice(&photo.body).expect("JSON");
    let photo = photo["name"].as_str().expect("a name");
    let gallery = request("GET /gallery", ANNA).expect(200).text();
    let small = gallery.split('"').find(|link| link.starts_with("thumb/")).expect("a thumbnail");
    assert!(small.contains("?v="), "{small}");
    let paths = [
        "/",
        "/app.css",
        "/page.html",
        "/snapshot",
        "/current_picture",
        "/gallery",
        &format!("/pic/{photo}"),
        &format!("/thumb/{photo}"),
        &format!("/{small}"),
        &format!("/view/{photo}"),
        "/interval",
        "/status",
        "/metrics",
        "/controls",
        "/md/",
        "/md/note",
        "/md/note?raw",
        "/md/picture.png",
        "/md",
        "/nothing",
    ];
    let expect_private = |reply: &Reply, path: &str, allowed: &[&str]| {
        let rule = reply.header("Cache-Control").unwrap_or_default();
        assert!(allowed.contains(&rule), "{path}: {} {rule:?}", reply.status);
        assert!(!SHARED.iter().any(|word| rule.contains(word)), "{path}: {rule}");
    };
    for path in paths {
        let line = format!("GET {path}");
        let reply = request(&line, ANNA);
        // A thumbnail's address changes with its photo: its own visitor's browser may keep it.
        let forever = "private, max-age=31536000, immutable";
        let allowed: &[&str] =
            if path.contains("?v=") { &[forever] } else { &["no-store", "no-cache"] };
        expect_private(&reply, path, allowed);
        let stranger = request(&line, "");
        assert_eq!(stranger.status, 401, "{path}");
        expect_private(&stranger, path, &["no-store"]);
        // Who has a copy is told nothing of it without the password.
        if let Some(tag) = reply.header("ETag") {
            let has = format!("If-None-Match: {tag}\r\n");
            request(&line, &format!("{ANNA}{has}")).expect(304);
            request(&line, &has).expect(401);
        }
    }
    let archive = request("POST /gallery/archive", ANNA).expect(200);
    expect_private(&archive, "archive", &["no-store"]);
    let head = format!("GET /video_feed HTTP/1.1\r\nHost: pi\r\n{ANNA}\r\n");
    let stream = Stream::ask(server.addr(), &head);
    assert_eq!(stream.head.header("Cache-Control"), Some("no-store"));
}
