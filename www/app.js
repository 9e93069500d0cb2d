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

const $ = id => document.getElementById(id);
const root = document.documentElement;
const words = $('info').dataset;
let picture = $('picture'); // <img>, or <canvas> for a last picture
let wake = () => {};

const nap = ms => new Promise(done => {
  const timer = setTimeout(done, ms);
  wake = () => { clearTimeout(timer); done(); };
});

const limit = ms => AbortSignal.timeout && AbortSignal.timeout(ms);

function say(state, text = words[state]) {
  root.dataset.state = state;
  $('lost').hidden = state !== 'lost';
  if ($('status').textContent !== text) $('status').textContent = text;
}

function show(next) {
  if (next !== picture) {
    next.id = picture.id;
    picture.replaceWith(next);
    picture = next;
  }
  const [w, h] = [next.naturalWidth || next.width, next.naturalHeight || next.height];
  root.style.setProperty('--shape', w / h);
}

function copy(img, w, h) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [w, h];
  canvas.getContext('2d').drawImage(img, 0, 0, w, h);
  return canvas;
}

const look = img => copy(img, 64, 36).toDataURL();

// Ends a stream; its last picture stays.
function hold(img) {
  if (img === picture && img.naturalWidth) show(copy(img, img.naturalWidth, img.naturalHeight));
  img.removeAttribute('src');
}

// A picture of this moment; null if the server has none; throws if it does not answer.
async function snapshot() {
  const reply = await fetch('snapshot?max_age=200', { signal: limit(8000) });
  if (!reply.ok) {
    say('dark');
    return null;
  }
  const img = new Image();
  img.src = URL.createObjectURL(await reply.blob());
  await img.decode();
  URL.revokeObjectURL(img.src);
  return img;
}

// Shows a stream until it ends or the page is hidden; true if it moved.
async function stream(img) {
  let seen, moved = false, since = Date.now(), patience = STALL[0];
  img.onload = img.onerror = () => wake();
  while (!document.hidden) {
    if (img.complete) {
      if (!img.naturalWidth) break;
      img.onload = null;
      show(img);
      const now = look(img);
      if (now !== seen) {
        moved = !!seen;
        [seen, since, patience] = [now, Date.now(), STALL[0]];
        say('live');
      }
    }
    if (Date.now() - since > patience) {
      const fresh = await snapshot();
      await nap(500);
      if (!seen || fresh && look(fresh) !== seen && look(img) === seen) break;
      [since, patience] = [Date.now(), Math.min(patience * 2, STALL[1])];
    }
    await nap(1000);
  }
  return moved;
}

// One snapshot after the other, where the stream does not run.
async function poll(ms) {
  for (const end = Date.now() + ms; !document.hidden && Date.now() < end;) {
    const fresh = await snapshot();
    if (fresh) {
      show(fresh);
      say('live', words.polled);
    }
    await nap(fresh ? 100 : 2000);
  }
}

async function run() {
  let img = picture, stuck = 0, retry = RETRY[0];
  say('connecting');
  for (;;) {
    try {
      stuck = await stream(img) ? 0 : stuck + 1;
      hold(img);
      if (document.hidden) {
        say('paused');
        while (document.hidden) await nap(1e9);
        stuck = 0;
        say('connecting');
      } else if (stuck > 1) {
        await poll(15000 * stuck);
      } else {
        await snapshot();
      }
      retry = RETRY[0];
    } catch (_) {
      hold(img);
      say('lost');
      await nap(retry);
      retry = Math.min(retry * 2, RETRY[1]);
    }
    img = new Image();
    img.src = 'video_feed?' + Date.now();
  }
}

// What the server knows: numbers beside the state, and the camera's time.
let ahead; // ms that the camera's wall clock, read as if it were UTC, is ahead of ours

const put = (text, value) => text.replace('{}', value);

async function ask() {
  const stats = [];
  try {
    const headers = { Accept: 'application/json' };
    const reply = await fetch('status', { headers, signal: limit(8000) });
    if (!reply.ok) throw reply;
    const { camera, viewers, time } = await reply.json();
    if (camera.test) stats.push(words.test);
    if (camera.fps_real) stats.push(put(words.fps, camera.fps_real.toFixed(1)));
    stats.push(put(viewers === 1 ? words.viewer : words.viewers, viewers));
    const now = Date.parse(time.replace(/(Z|[+-]\d\d:?\d\d)$/, 'Z')) - Date.now();
    // Whole seconds and a slow way make an answer late, never early.
    if (!(ahead > now && ahead < now + 3000)) ahead = now;
  } catch (_) {}
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

// The tools. The view is remembered, where the browser allows it.
let turns = 0, mirrored = false, clocked = false;
try { [turns, mirrored, clocked = false] = JSON.parse(localStorage.view); } catch (_) {}

function pose() {
  root.classList.toggle('quarter', turns % 2);
  $('frame').style.transform = `scaleX(${mirrored ? -1 : 1}) rotate(${turns * 90}deg)`;
  $('flip').setAttribute('aria-pressed', mirrored);
  $('clock').setAttribute('aria-pressed', clocked);
  tick();
  try { localStorage.view = JSON.stringify([turns, mirrored, clocked]); } catch (_) {}
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

$('turn').onclick = () => { turns = (turns + (mirrored ? 3 : 1)) % 4; pose(); };
$('flip').onclick = () => { mirrored = !mirrored; pose(); };
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
  const photo = $('photo');
  if (photo.getAttribute('aria-busy') === 'true') return;
  photo.setAttribute('aria-busy', true);
  try {
    const headers = { Accept: 'application/json' };
    const reply = await fetch(e.target.action, { method: 'POST', headers, signal: limit(20000) });
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
};

let doze;
onpointermove = onpointerdown = onkeyup = () => {
  root.classList.add('awake');
  clearTimeout(doze);
  doze = setTimeout(() => root.classList.remove('awake'), 2500);
};

for (const id of ['turn', 'flip', 'clock', 'full']) $(id).hidden = false;
for (const name of ['visibilitychange', 'online']) addEventListener(name, () => wake());
pose();
run();
