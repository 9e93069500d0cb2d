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
let picture = $('picture'); // <img>, or <canvas> for a last picture
let wake = () => {};

const nap = ms => new Promise(done => {
  const timer = setTimeout(done, ms);
  wake = () => { clearTimeout(timer); done(); };
});

function say(state, text) {
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
  const signal = AbortSignal.timeout && AbortSignal.timeout(8000);
  const reply = await fetch('snapshot?max_age=200', { signal });
  if (!reply.ok) {
    say('dark', 'No signal from the camera');
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
        say('live', 'Live');
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
      say('live', 'Live, picture by picture');
    }
    await nap(fresh ? 100 : 2000);
  }
}

async function run() {
  let img = picture, stuck = 0, retry = RETRY[0];
  say('connecting', 'Connecting');
  for (;;) {
    try {
      stuck = await stream(img) ? 0 : stuck + 1;
      hold(img);
      if (document.hidden) {
        say('paused', 'Paused');
        while (document.hidden) await nap(1e9);
        stuck = 0;
        say('connecting', 'Connecting');
      } else if (stuck > 1) {
        await poll(15000 * stuck);
      } else {
        await snapshot();
      }
      retry = RETRY[0];
    } catch (_) {
      hold(img);
      say('lost', 'Connection lost');
      await nap(retry);
      retry = Math.min(retry * 2, RETRY[1]);
    }
    img = new Image();
    img.src = 'video_feed?' + Date.now();
  }
}

// The tools. The view is remembered, where the browser allows it.
let turns = 0, mirrored = false;
try { [turns, mirrored] = JSON.parse(localStorage.view); } catch (_) {}

function pose() {
  root.classList.toggle('quarter', turns % 2);
  $('frame').style.transform = `scaleX(${mirrored ? -1 : 1}) rotate(${turns * 90}deg)`;
  $('flip').setAttribute('aria-pressed', mirrored);
  try { localStorage.view = JSON.stringify([turns, mirrored]); } catch (_) {}
}

function fill(on) {
  root.classList.toggle('full', on);
  $('full').setAttribute('aria-pressed', on);
}

$('turn').onclick = () => { turns = (turns + (mirrored ? 3 : 1)) % 4; pose(); };
$('flip').onclick = () => { mirrored = !mirrored; pose(); };
$('stage').ondblclick = $('full').onclick = () => {
  fill(!root.classList.contains('full'));
  if (document.fullscreenElement) document.exitFullscreen();
  else if (root.requestFullscreen) root.requestFullscreen().catch(() => {});
};
document.onfullscreenchange = () => fill(!!document.fullscreenElement);
$('snapshot').onclick = () => {
  $('snapshot').download = new Date().toLocaleString('sv').replace(/:/g, '.') + '.jpg';
};

const keys = { s: 'snapshot', r: 'turn', m: 'flip', f: 'full' };
onkeydown = e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.repeat) return;
  if (e.key === 'Escape') fill(false);
  else if (keys[e.key]) $(keys[e.key]).click();
};

let doze;
onpointermove = onpointerdown = onkeyup = () => {
  root.classList.add('awake');
  clearTimeout(doze);
  doze = setTimeout(() => root.classList.remove('awake'), 2500);
};

for (const id of ['turn', 'flip', 'full']) $(id).hidden = false;
for (const name of ['visibilitychange', 'online']) addEventListener(name, () => wake());
pose();
run();
