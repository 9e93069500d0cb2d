// The page of controls: sets at once what is moved, and keeps what is shown true. One request is
// under way at a time; of what is moved meanwhile, the last value wins.
'use strict';

const REFRESH = 5000, PATIENCE = 15000; // ms

const find = (what, from = document) => from.querySelector(what);
const sight = find('#sight'), said = find('#said'), trouble = find('#trouble');
const feed = sight.getAttribute('src');
const forms = new Map([...document.querySelectorAll('section form')].map(form =>
  [Number(form.elements.id.value), form]));
const wanted = new Map(); // what is to be sent, by control
const looks = find('[data-role]');
let busy = false, lost = false;

const field = form => find('[id^=v]', form);
const slider = form => find('[type=range]', form);

function say(text, where = said) {
  where.textContent = text;
  where.hidden = !text;
}

// A value as its field holds it.
function written({ type, value }) {
  if (value === null) return '';
  return type === 'bitmask' ? '0x' + value.toString(16).padStart(8, '0') : String(value);
}

// What is true of a control; a value that is being changed stays.
function show(form, control, mine) {
  const input = field(form), range = slider(form), reset = find('[name=reset]', form);
  form.firstElementChild.disabled = looks || !control.settable;
  for (const state of form.querySelectorAll('[data-state]')) {
    state.hidden = !control[state.dataset.state];
  }
  const same = control.value === control.default;
  if (reset) reset.hidden = same && !control.kept;
  const typing = input === document.activeElement && !mine;
  if (!input || input.localName === 'output' || wanted.has(control.id) || typing) return;
  if (input.type === 'checkbox') input.checked = control.value === 1;
  else input.value = written(control);
  if (range) range.value = input.value;
}

async function ask(id, fields) {
  const init = { headers: { Accept: 'application/json' } };
  if (AbortSignal.timeout) init.signal = AbortSignal.timeout(PATIENCE);
  if (fields) Object.assign(init, { method: 'POST', body: new URLSearchParams(fields) });
  let sentence = said.dataset.lost;
  try {
    const reply = await fetch(location.pathname, init);
    if (reply.ok) {
      const list = await reply.json(), { controls } = list;
      const known = controls.length === forms.size && controls.every(one => forms.has(one.id));
      if (!known) return location.reload();
      for (const control of controls) show(forms.get(control.id), control, control.id === id);
      if (!list.trouble !== trouble.hidden) say(list.trouble || '', trouble);
      if (lost || fields) say('');
      if (lost) sight.src = feed + '?' + Date.now();
      lost = false;
      return true;
    }
    sentence = (await reply.text()).trim();
    lost = !fields;
  } catch (_) {
    lost = true;
  }
  say(sentence);
  return false;
}

async function send(id, fields) {
  wanted.set(id, fields);
  if (busy) return;
  busy = true;
  for (const [next, fields] of wanted) {
    wanted.delete(next);
    const done = await ask(next, next ? { id: next, ...fields } : fields);
    if (!done && !lost) await ask(next); // what is true instead
  }
  busy = false;
}

for (const [id, form] of forms) {
  const input = field(form), range = slider(form);
  const set = value => send(id, { value });
  if (looks) form.firstElementChild.disabled = true;
  else if (range) {
    range.hidden = false;
    range.oninput = () => set(input.value = range.value);
  }
  if (input) input.onchange = () => {
    if (input.type === 'checkbox') set(Number(input.checked));
    else if (input.reportValidity()) {
      if (range) range.value = input.value;
      set(input.value);
    }
  };
  // Still there: what Enter in a field presses.
  for (const button of form.querySelectorAll('p .button:not([name])')) button.hidden = true;
  form.onsubmit = e => {
    e.preventDefault();
    const name = e.submitter && e.submitter.name;
    if (name === 'reset') send(id, { reset: 1 });
    else if (name) send(id, { value: 1 });
    else input.onchange();
  };
}

const all = find('form.all');
if (all) all.onsubmit = e => {
  e.preventDefault();
  send(0, { reset: 'all' });
};

find('main').classList.add('alive');

setInterval(() => { if (!busy && !document.hidden) ask(); }, REFRESH);
document.onvisibilitychange = () => {
  if (document.hidden) sight.removeAttribute('src');
  else sight.src = feed + '?' + Date.now();
};
