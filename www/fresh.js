// Keeps the part of a page that changes up to date, while somebody looks.
'use strict';

setInterval(async () => {
  if (document.hidden) return;
  try {
    const reply = await fetch(location.href, { headers: { Accept: 'text/html' } });
    if (!reply.ok) return;
    const page = new DOMParser().parseFromString(await reply.text(), 'text/html');
    const [now, next] = [document, page].map(page => page.querySelector('[data-fresh]'));
    if (next) now.replaceWith(next);
    else location.reload(); // it has ended
  } catch (_) {}
}, 5000);
