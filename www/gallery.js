// The gallery and the page of a photo: keys, choosing, swiping. All of it works without, only
// less well.
'use strict';

const find = (what, from = document) => from.querySelector(what);
const sheet = find('.confirm'), summary = sheet && find('summary', sheet);
const grid = find('.grid');
let clear = () => {}; // what Escape does when nothing is open

function close() {
  if (sheet.contains(document.activeElement)) summary.focus();
  sheet.open = false;
}

// The gallery: what is chosen, and what can be done with it.
if (grid) {
  const tiles = [...grid.children], boxes = tiles.map(tile => find('input', tile));
  const form = find('#gallery'), all = find('#all'), choice = find('output');
  const remove = find('button', sheet);
  let last = 0, shift = false;

  const update = () => {
    const n = boxes.filter(box => box.checked).length;
    for (const button of form.querySelectorAll('.bar button')) button.disabled = !n;
    summary.setAttribute('aria-disabled', !n);
    if (!n) sheet.open = false;
    all.checked = n === boxes.length;
    all.indeterminate = n > 0 && !all.checked;
    choice.textContent = n ? choice.dataset.selected.replace('{}', n) : '';
    remove.textContent = (n === 1 ? remove.dataset.one : remove.dataset.many).replace('{}', n);
  };
  const choose = on => { for (const box of boxes) box.checked = on; update(); };
  clear = () => choose(false);

  all.onchange = () => choose(all.checked);
  summary.onclick = e => { if (!boxes.some(box => box.checked)) e.preventDefault(); };
  grid.onmousedown = e => { shift = e.shiftKey; if (shift) e.preventDefault(); };
  grid.onchange = e => {
    const at = boxes.indexOf(e.target), [from, to] = [Math.min(at, last), Math.max(at, last)];
    if (shift) for (const box of boxes.slice(from, to + 1)) box.checked = e.target.checked;
    [last, shift] = [at, false];
    update();
  };
  grid.onkeydown = e => {
    if (e.key === ' ') shift = e.shiftKey;
    const row = tiles.filter(tile => tile.offsetTop === tiles[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[e.key];
    const next = tiles[tiles.indexOf(e.target.closest('li')) + step];
    if (!next || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    find(e.target.localName, next).focus();
  };
  find('#choice').hidden = false;
  onpageshow = update; // also when the browser comes back to the page
  update();
}

// What was said once is not said again when the page is loaded again.
if (find('.said')) history.replaceState(null, '', location.search.split('&')[0]);

// A photo: its neighbours.
const photo = find('.photo');
const go = rel => { const link = photo && find(`a[rel=${rel}]`, photo); if (link) link.click(); };
if (photo) {
  let from;
  photo.addEventListener('touchstart', e => {
    const whole = !window.visualViewport || visualViewport.scale < 1.05;
    from = whole && e.touches.length === 1 ? e.touches[0] : null;
  }, { passive: true });
  photo.addEventListener('touchend', e => {
    if (!from) return;
    const to = e.changedTouches[0];
    const [x, y] = [to.clientX - from.clientX, to.clientY - from.clientY];
    if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) go(x > 0 ? 'prev' : 'next');
  });
}

if (sheet) {
  addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.localName === 'select') return;
    if (e.key === 'ArrowLeft') go('prev');
    else if (e.key === 'ArrowRight') go('next');
    else if (e.key === 'Escape') sheet.open ? close() : clear();
    else if (e.key === 'Delete' && summary.getAttribute('aria-disabled') !== 'true') {
      sheet.open = true;
      find('button', sheet).focus();
    }
  });
  addEventListener('click', e => { if (!sheet.contains(e.target)) sheet.open = false; });
}
