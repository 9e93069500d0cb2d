// Keeps the part of a page that changes up to date, while somebody looks.
'use strict';

const part = page => page.querySelector('[data-fresh]');

if (part(document)) setInterval(async () => {
  if (document.hidden) return;
  try {
    const reply = await fetch(location.href, { headers: { Accept: 'text/html' } });
    if (!reply.ok) return;
    const page = new DOMParser().parseFromString(await reply.text(), 'text/html');
    if (part(page)) part(document).replaceWith(part(page));
    else location.reload(); // it has ended
  } catch (_) {}
}, 5000);
