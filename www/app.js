// The live page: keeps the picture running, and works the tools.
//
//   connecting ── picture ──▶ live ── stalled, no reply ──▶ lost ──▶ connecting
//          any ── tab hidden ──▶ paused ── tab shown ──▶ connecting
//
// No browser tells that a stream in an <img> has ended: the picture is looked at once a second,
// and when it stands still, a snapshot tells whether the scene does too.
'use strict';

const STALL = [2500, 20000]; // ms without change until a snapshot is asked: at first, at most
const RETRY = [500, 10000]; // ms between attempts

const STREAMS = 4; // beside which a browser, with its six connections, can ask for more

const $ = id => document.getElementById(id);
const root = document.documentElement;
const words = $('info').dataset;
let views, chosen;

const limit = ms => AbortSignal.timeout && AbortSignal.timeout(ms);

function copy(img, w, h) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [w, h];
  canvas.getContext('2d').drawImage(img, 0, 0, w, h);
  return canvas;
}

const look = img => copy(img, 64, 36).toDataURL();

// One camera's picture, and how it is looked at, which is remembered where the browser allows it.
class View {
  constructor(figure, at) {
    const frame = figure.firstElementChild, picture = frame.firstElementChild;
    Object.assign(this, { figure, frame, picture, at }); // later a <canvas>, for a last picture
    this.say('connecting');
    this.feed = picture.getAttribute('src');
    this.key = 'view' + (at || '');
    this.pose = [0, false]; // quarters, mirrored
    try { this.pose = JSON.parse(localStorage[this.key]); } catch (_) {}
    figure.onclick = figure.onchange = () => choose(this);
  }

  path(what) { return this.feed.replace('video_feed', what); }

  nap(ms) {
    return new Promise(done => {
      const timer = setTimeout(done, ms);
      this.wake = () => { clearTimeout(timer); done(); };
    });
  }

  say(state, text = words[state]) {
    this.figure.dataset.state = state;
    this.text = text;
    if (this === chosen) tell();
  }

  show(next) {
    if (next !== this.picture) {
      [next.id, next.className] = [this.picture.id, 'picture'];
      this.picture.replaceWith(next);
      this.picture = next;
    }
    const [w, h] = [next.naturalWidth || next.width, next.naturalHeight || next.height];
    this.figure.style.setProperty('--shape', w / h);
  }

  // Ends a stream; its last picture stays.
  hold(img) {
    const [w, h] = [img.naturalWidth, img.naturalHeight];
    if (img === this.picture && w) this.show(copy(img, w, h));
    img.removeAttribute('src');
  }

  // A picture of this moment; null if the server has none; throws if it does not answer.
  async snapshot() {
    const reply = await fetch(this.path('snapshot') + '?max_age=200', { signal: limit(8000) });
    if (!reply.ok) {
      this.say('dark');
      return null;
    }
    const img = new Image();
    img.src = URL.createObjectURL(await reply.blob());
    await img.decode();
    URL.revokeObjectURL(img.src);
    return img;
  }

  // Shows a stream until it ends or the page is hidden; true if it moved.
  async stream(img) {
    let seen, moved = false, since = Date.now(), patience = STALL[0];
    img.onload = img.onerror = () => this.wake();
    while (!document.hidden) {
      if (img.complete) {
        if (!img.naturalWidth) break;
        img.onload = null;
        this.show(img);
        const now = look(img);
        if (now !== seen) {
          moved = !!seen;
          [seen, since, patience] = [now, Date.now(), STALL[0]];
          this.say('live');
        }
      }
      if (Date.now() - since > patience) {
        const fresh = await this.snapshot();
        await this.nap(500);
        if (!seen || fresh && look(fresh) !== seen && look(img) === seen) break;
        [since, patience] = [Date.now(), Math.min(patience * 2, STALL[1])];
      }
      await this.nap(1000);
    }
    return moved;
  }

  // One snapshot after the other, where the stream does not run.
  async poll(ms, pause) {
    for (const end = Date.now() + ms; !document.hidden && Date.now() < end;) {
      const fresh = await this.snapshot();
      if (fresh) {
        this.show(fresh);
        this.say('live', words.polled);
      }
      await this.nap(fresh ? pause : 2000);
    }
  }

  async run() {
    let img = this.picture, stuck = 0, retry = RETRY[0];
    const streams = this.at < STREAMS;
    if (!streams) img.removeAttribute('src');
    for (;;) {
      try {
        if (streams) {
          stuck = await this.stream(img) ? 0 : stuck + 1;
          this.hold(img);
        } else {
          await this.poll(1e9, 1000);
        }
        if (document.hidden) {
          this.say('paused');
          while (document.hidden) await this.nap(1e9);
          stuck = 0;
          this.say('connecting');
        } else if (stuck > 1) {
          await this.poll(15000 * stuck, 100);
        } else {
          await this.snapshot();
        }
        retry = RETRY[0];
      } catch (_) {
        this.hold(img);
        this.say('lost');
        await this.nap(retry);
        retry = Math.min(retry * 2, RETRY[1]);
      }
      img = new Image();
      if (streams) img.src = this.feed + '?' + Date.now();
    }
  }
}

function tell() {
  const { state } = chosen.figure.dataset;
  root.dataset.state = state;
  $('lost').hidden = state !== 'lost';
  if ($('status').textContent !== chosen.text) $('status').textContent = chosen.text;
}

// Which of several cameras the tools are for.
function choose(view) {
  chosen = view;
  view.figure.append($('glass'));
  if (views.length > 1) {
    for (const one of views) one.figure.classList.toggle('chosen', one === view);
    view.figure.querySelector('input').checked = true;
    $('snapshot').href = view.path('snapshot');
    $('controls').href = view.path('controls');
  }
  tell();
  count();
  pose();
}

// What the server knows: numbers beside the state, and the camera's time.
let ahead; // ms that the camera's wall clock, read as if it were UTC, is ahead of ours

const put = (text, value) => text.replace('{}', value);

let known = []; // of the cameras

async function ask() {
  try {
    const headers = { Accept: 'application/json' };
    const reply = await fetch('status', { headers, signal: limit(8000) });
    if (!reply.ok) throw reply;
    const { cameras, time } = await reply.json();
    known = cameras;
    const now = Date.parse(time.replace(/(Z|[+-]\d\d:?\d\d)$/, 'Z')) - Date.now();
    // Whole seconds and a slow way make an answer late, never early.
    if (!(ahead > now && ahead < now + 3000)) ahead = now;
  } catch (_) {
    known = [];
  }
  count();
}

// What is known of the camera that is chosen.
function count() {
  const stats = [], camera = known[chosen.at];
  if (camera) {
    const { test, fps_real: fps, viewers } = camera;
    if (test) stats.push(words.test);
    if (fps) stats.push(put(words.fps, fps.toFixed(1)));
    stats.push(put(viewers === 1 ? words.viewer : words.viewers, viewers));
  }
  $('stats').replaceChildren(...stats.map(stat => {
    const span = document.createElement('span');
    span.textContent = stat;
    return span;
  }));
}

(async () => {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise(done => setTimeout(done, 2000));
  }
})();

// The tools.
let clocked = false;

function pose() {
  const [turns, mirrored] = chosen.pose;
  chosen.figure.classList.toggle('quarter', turns % 2);
  chosen.frame.style.transform = `scaleX(${mirrored ? -1 : 1}) rotate(${turns * 90}deg)`;
  $('flip').setAttribute('aria-pressed', mirrored);
  $('clock').setAttribute('aria-pressed', clocked);
  tick();
  try { localStorage[chosen.key] = JSON.stringify([turns, mirrored, clocked]); } catch (_) {}
}

function tick() {
  $('time').hidden = !clocked || isNaN(ahead);
  if ($('time').hidden) return;
  const iso = new Date(Date.now() + ahead).toISOString();
  $('time').textContent = iso.slice(0, 19).replace('T', ' ');
}
setInterval(tick, 200);

function fill(on) {
  root.classList.toggle('full', on);
  $('full').setAttribute('aria-pressed', on);
}

$('turn').onclick = () => {
  const [turns, mirrored] = chosen.pose;
  chosen.pose[0] = (turns + (mirrored ? 3 : 1)) % 4;
  pose();
};
$('flip').onclick = () => { chosen.pose[1] = !chosen.pose[1]; pose(); };
$('clock').onclick = () => { clocked = !clocked; pose(); };
$('stage').ondblclick = $('full').onclick = () => {
  fill(!root.classList.contains('full'));
  if (document.fullscreenElement) document.exitFullscreen();
  else if (root.requestFullscreen) root.requestFullscreen().catch(() => {});
};
document.onfullscreenchange = () => fill(!!document.fullscreenElement);
$('snapshot').onclick = () => {
  $('snapshot').download = new Date().toLocaleString('sv').replace(/:/g, '.') + '.jpg';
};

// A photo: its thumbnail lies in the corner for a while, and then leads on from the tools.
let fade;
function toast(...content) {
  const toast = $('toast');
  toast.replaceChildren(...content);
  clearTimeout(fade);
  fade = setTimeout(function end() {
    if (toast.matches(':hover, :focus-within')) fade = setTimeout(end, 2000);
    else toast.replaceChildren();
  }, 8000);
}

function saved(name) {
  const link = document.createElement('a');
  link.href = $('last').href = 'view/' + encodeURIComponent(name);
  const img = new Image();
  img.src = 'thumb/' + encodeURIComponent(name);
  img.alt = '';
  link.append(img, $('toast').dataset.saved);
  toast(link);
  $('last').firstElementChild.replaceWith(img.cloneNode());
}

$('photo').form.onsubmit = async e => {
  e.preventDefault();
  const photo = $('photo'), { picture } = chosen;
  if (photo.getAttribute('aria-busy') === 'true') return;
  photo.setAttribute('aria-busy', true);
  try {
    const headers = { Accept: 'application/json' };
    const body = new URLSearchParams(new FormData(e.target));
    const reply = await fetch(e.target.action, { method: 'POST', headers, body, signal: limit(20000) });
    if (reply.ok) {
      saved((await reply.json()).name);
      picture.animate({ opacity: [.1, 1] }, 300);
    } else {
      toast((await reply.text()).trim());
    }
  } catch (_) {
    toast($('toast').dataset.failed);
  }
  photo.setAttribute('aria-busy', false);
};

const keys = { s: 'snapshot', r: 'turn', m: 'flip', c: 'clock', f: 'full', p: 'photo' };
onkeydown = e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.repeat) return;
  const key = e.key.toLowerCase();
  if (key === 'escape') fill(false);
  else if (keys[key]) $(keys[key]).click();
  else if (views[key - 1]) choose(views[key - 1]);
};

let doze;
onpointermove = onpointerdown = onkeyup = () => {
  root.classList.add('awake');
  clearTimeout(doze);
  doze = setTimeout(() => root.classList.remove('awake'), 2500);
};

for (const id of ['turn', 'flip', 'clock', 'full']) $(id).hidden = false;
views = [...document.querySelectorAll('figure')].map((figure, at) => new View(figure, at));
for (const name of ['visibilitychange', 'online']) {
  addEventListener(name, () => views.forEach(view => view.wake()));
}
clocked = views[0].pose[2] || false;
views.forEach(choose);
choose(views[0]);
views.forEach(view => view.run());
