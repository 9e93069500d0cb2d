// An epoll load client for MJPEG over HTTP (multipart/x-mixed-replace).
//
//   viewers -p PORT [-h ADDRESS] [-u PATH] [-n N] [-t SECONDS] [-w WARM] [-i SECONDS] [-F] [-D] [-l FILE]
//           [-s K -r KBIT] [-x K] [-y K -z SECONDS] [-c PER_SECOND] [-m MSS] [-b RCVBUF]
//
//   -n N    normal viewers                        -t T  length of the measured window
//   -s K    slow readers of -r kbit/s each        -w W  seconds from the last first frame to the window
//   -x K    viewers that ask and never read       -i S  give up waiting for first frames after S (20)
//   -y K    viewers that read as normal ones and stop -z seconds after their first frame
//   -c C    C connections a second that end at once, in turn: before the request, after it, after a frame
//   -F      fast: the bulk of a frame is discarded in the kernel (MSG_TRUNC), so that the client costs
//           little; without it every byte is read
//   -D      decode the stamp in the picture (raw input that the server encoded), see stamp.h
//   -l      a line for each frame of a normal viewer: seconds since the window began, number of the
//           viewer, sequence number, age in ms, bytes
//   -m -b   TCP_MAXSEG and SO_RCVBUF of those who do not read as they should (1448, 32768; 0: default)
//
// Prints the line "start" when the window begins and "end" when it ends, for a caller that samples the
// server, then one JSON object. Age is from the tick of the camera to the last byte of the frame.
// A frame is bad if it does not begin with FFD8 and end with FFD9 (zeros may follow). Parts are cut by
// Content-Length if they have it, else by boundary; chunked transfer coding is understood.
#define _GNU_SOURCE
#include "stamp.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <jpeglib.h>

enum kind { NORMAL, SLOW, STUCK, STOP, CHURN };
enum state { CONNECTING, HEAD, CHUNK_SIZE, CHUNK_END, PART, BODY, SCAN };
struct conn {
	int fd, mode;               // mode: of a churner
	enum kind kind;
	enum state http, part;      // http: CONNECTING, HEAD, CHUNK_SIZE, CHUNK_END or BODY; part: PART, BODY, SCAN
	bool chunked, open, stopped;
	char line[32];              // chunk size line
	int line_n;
	uint64_t chunk_left;
	char head[4096];            // response head or part head
	size_t head_n;
	char boundary[80];
	uint64_t left, pos;         // of the part: bytes to come, bytes got
	uint8_t first[192], last[2];
	uint8_t *all;               // whole part, for SCAN and -D
	size_t all_n, all_cap;
	uint64_t began, first_frame; // ns
	uint64_t frames, bytes, bad, gaps;
	int64_t seq;
	double tokens;
};
struct ages { float *v; size_t n, cap; };

static struct sockaddr_in addr = { .sin_family = AF_INET };
static const char *path = "/video_feed", *host = "127.0.0.1";
static int ep, mss = 1448, rcvbuf = 32768;
static bool fast, decode, window;
static uint64_t window_ns;
static double stop_after = 3;
static struct conn *all_conns;
static FILE *frame_log;
static struct ages ages[2]; // normal, slow
static uint64_t churned, churn_failed, closed, unstamped, received;
static uint8_t buf[1 << 18];

static void age_add(struct ages *a, float ms)
{
	if (a->n == a->cap)
		a->v = realloc(a->v, (a->cap = a->cap ? a->cap * 2 : 4096) * sizeof *a->v);
	a->v[a->n++] = ms;
}

// The stamp in the picture: only the first two rows of blocks are decoded, at 1/8 scale.
static jmp_buf jpeg_failed;
static void on_error(j_common_ptr c) { (void)c; longjmp(jpeg_failed, 1); }
static void on_message(j_common_ptr c, int l) { (void)c, (void)l; }

static int picture_stamp(const uint8_t *p, size_t n, uint32_t *seq, uint64_t *ns)
{
	struct jpeg_decompress_struct d;
	struct jpeg_error_mgr e;
	uint8_t row[2048], *rows = row;
	volatile uint64_t bits = 0;
	uint64_t now = now_ns();
	d.err = jpeg_std_error(&e);
	e.error_exit = on_error;
	e.emit_message = on_message;
	jpeg_create_decompress(&d);
	if (setjmp(jpeg_failed)) {
		jpeg_destroy_decompress(&d);
		return 0;
	}
	jpeg_mem_src(&d, p, n);
	jpeg_read_header(&d, TRUE);
	d.scale_num = 1;
	d.scale_denom = 8;
	d.out_color_space = JCS_GRAYSCALE;
	jpeg_start_decompress(&d);
	bool fits = d.output_width >= 64 && d.output_width <= sizeof row;
	for (int y = 0; fits && y < 4; y++) {
		jpeg_read_scanlines(&d, &rows, 1);
		for (int x = 0; y % 2 && x < 32; x++)
			bits = bits << 1 | (row[2 * x] + row[2 * x + 1] > 256);
	}
	jpeg_abort_decompress(&d);
	jpeg_destroy_decompress(&d);
	*seq = bits >> 8 & 0xffff;
	uint64_t us = (now / 1000 & ~0xffffffffffull) | bits >> 24;
	*ns = us * 1000;
	return fits && stamp_bits(*seq, *ns) == bits;
}

static void finish(struct conn *c, enum kind k) // the connection is over
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->all);
	c->all = NULL;
	c->all_n = c->all_cap = 0;
	if (k == CHURN)
		c->open = false;
	else if (c->open)
		closed++, c->open = false;
}

static void frame_done(struct conn *c)
{
	uint64_t now = now_ns(), ns;
	uint32_t seq;
	bool whole = c->part == SCAN || decode;
	if (!c->first_frame)
		c->first_frame = now;
	if (whole && c->all_n) {
		size_t n = c->all_n;
		while (n > 2 && !c->all[n - 1])
			n--;
		memcpy(c->first, c->all, n < sizeof c->first ? n : sizeof c->first);
		memcpy(c->last, c->all + n - 2, 2);
		c->pos = c->all_n;
	}
	if (window) {
		size_t n = c->pos < sizeof c->first ? c->pos : sizeof c->first;
		c->frames++;
		if (c->pos < 4 || memcmp(c->first, "\xff\xd8", 2) || memcmp(c->last, "\xff\xd9", 2))
			c->bad++;
		else if (stamp_read(c->first, n, &seq, &ns) || (decode && picture_stamp(c->all, c->all_n, &seq, &ns))) {
			if (c->seq >= 0) {
				int64_t gap = decode ? (uint16_t)(seq - c->seq) - 1 : seq - c->seq - 1;
				c->gaps += gap > 0 ? gap : 0;
			}
			c->seq = seq;
			if (c->kind == NORMAL || c->kind == SLOW)
				age_add(&ages[c->kind == SLOW], (now - ns) / 1e6);
			if (frame_log && c->kind == NORMAL)
				fprintf(frame_log, "%.4f %d %" PRIu32 " %.2f %" PRIu64 "\n", (now - window_ns) / 1e9,
					(int)(c - all_conns), seq, (now - ns) / 1e6, c->pos);
		} else
			unstamped++;
	}
	c->pos = c->all_n = c->head_n = 0;
	c->part = PART;
}

static const char *field(const char *head, const char *name)
{
	const char *p = strcasestr(head, name);
	return p ? p + strlen(name) : NULL;
}

static bool response_head(struct conn *c)
{
	const char *p, *te = field(c->head, "\nTransfer-Encoding:");
	if (strncmp(c->head, "HTTP/1.", 7) || !strstr(c->head, " 200"))
		return false;
	if (!(p = field(c->head, "boundary=")))
		return false;
	p += strspn(p, "\"-"); // some servers put the dashes in the parameter, some do not
	snprintf(c->boundary, sizeof c->boundary, "--%.*s", (int)strcspn(p, "\"\r\n; "), p);
	c->chunked = te && !strncasecmp(te + strspn(te, " "), "chunked", 7);
	c->http = c->chunked ? CHUNK_SIZE : BODY;
	c->part = PART;
	c->head_n = 0;
	return true;
}

// Collects a head up to the empty line; returns the bytes used, or -1 if the head is too long.
static ssize_t collect(struct conn *c, const uint8_t *p, size_t n, bool *done)
{
	size_t used = 0;
	*done = false;
	while (used < n) {
		char ch = p[used++];
		if (!c->head_n && (ch == '\r' || ch == '\n'))
			continue;
		if (c->head_n + 1 >= sizeof c->head)
			return -1;
		c->head[c->head_n++] = ch;
		if (ch == '\n' && c->head_n >= 4 && !memcmp(c->head + c->head_n - 4, "\r\n\r\n", 4)) {
			c->head[c->head_n] = 0;
			*done = true;
			break;
		}
	}
	return used;
}

static void keep(struct conn *c, const uint8_t *p, size_t n)
{
	if (c->all_n + n > c->all_cap)
		c->all = realloc(c->all, c->all_cap = (c->all_n + n) * 2);
	memcpy(c->all + c->all_n, p, n);
	c->all_n += n;
}

static bool multipart(struct conn *c, const uint8_t *p, size_t n)
{
	while (n) {
		if (c->part == PART) {
			bool done;
			ssize_t used = collect(c, p, n, &done);
			if (used < 0)
				return false;
			p += used;
			n -= used;
			if (!done)
				return true;
			const char *len = field(c->head, "\nContent-Length:");
			if (!strstr(c->head, c->boundary + 2))
				c->bad++;
			c->left = len ? strtoull(len, NULL, 10) : 0;
			c->part = len ? BODY : SCAN;
			c->pos = c->all_n = 0;
		} else if (c->part == BODY) {
			size_t m = n < c->left ? n : c->left;
			if (c->pos < sizeof c->first) {
				size_t room = sizeof c->first - c->pos;
				memcpy(c->first + c->pos, p, m < room ? m : room);
			}
			for (size_t i = m, got = 0; i-- > 0 && got < 2;) // the last two bytes before padding
				if (p[i] || got) {
					if (!got && i == 0)
						c->last[0] = c->last[1];
					c->last[1 - got++] = p[i];
				}
			if (decode)
				keep(c, p, m);
			c->pos += m;
			c->left -= m;
			p += m;
			n -= m;
			if (!c->left)
				frame_done(c);
		} else {
			size_t from = c->all_n > 100 ? c->all_n - 100 : 0, had = c->all_n;
			keep(c, p, n);
			uint8_t *b = memmem(c->all + from, c->all_n - from, c->boundary, strlen(c->boundary));
			if (!b)
				return true;
			size_t at = b - c->all, used = at > had ? at - had : 0;
			// A boundary that began in the previous piece: give its start to the head by hand.
			char start[100];
			size_t start_n = at < had ? had - at : 0;
			memcpy(start, b, start_n);
			c->all_n = at >= 2 && b[-1] == '\n' ? at - 2 : at;
			frame_done(c);
			memcpy(c->head, start, start_n);
			c->head_n = start_n;
			p += used;
			n -= used;
		}
	}
	return true;
}

// Feeds bytes of the response; false if the connection is to be dropped.
static bool feed(struct conn *c, const uint8_t *p, size_t n)
{
	while (n) {
		if (c->http == HEAD) {
			bool done;
			ssize_t used = collect(c, p, n, &done);
			if (used < 0 || (done && !response_head(c)))
				return false;
			p += used;
			n -= used;
		} else if (c->http == CHUNK_SIZE || c->http == CHUNK_END) {
			char ch = *p++;
			n--;
			if (ch == '\n' && c->http == CHUNK_END) {
				c->http = CHUNK_SIZE;
				c->line_n = 0;
			} else if (ch == '\n') {
				c->line[c->line_n] = 0;
				c->chunk_left = strtoull(c->line, NULL, 16);
				if (!c->chunk_left)
					return false; // the end of the stream
				c->http = BODY;
			} else if (c->http == CHUNK_SIZE && c->line_n < (int)sizeof c->line - 1)
				c->line[c->line_n++] = ch;
		} else {
			size_t m = c->chunked && c->chunk_left < n ? c->chunk_left : n;
			if (!multipart(c, p, m))
				return false;
			p += m;
			n -= m;
			if (c->chunked && !(c->chunk_left -= m))
				c->http = CHUNK_END;
		}
	}
	return true;
}

static bool start(struct conn *c)
{
	int one = 1;
	c->http = CONNECTING;
	c->head_n = c->line_n = 0;
	c->seq = -1;
	c->began = now_ns();
	c->first_frame = 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return false;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (c->kind == SLOW || c->kind == STUCK || c->kind == STOP) {
		if (mss)
			setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss);
		if (rcvbuf)
			setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
	}
	if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) && errno != EINPROGRESS) {
		close(c->fd);
		c->fd = -1;
		return false;
	}
	struct epoll_event e = { .events = EPOLLOUT, .data.ptr = c };
	epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
	return true;
}

static void on_connected(struct conn *c)
{
	char req[512];
	int err = 0, n;
	socklen_t len = sizeof err;
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		if (c->kind == CHURN)
			churn_failed++;
		finish(c, c->kind);
		return;
	}
	c->open = true;
	if (c->kind == CHURN && c->mode == 0) {
		churned++;
		finish(c, CHURN);
		return;
	}
	n = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: viewers\r\n\r\n", path,
		     host, ntohs(addr.sin_port));
	send(c->fd, req, n, MSG_NOSIGNAL);
	c->http = HEAD;
	if (c->kind == CHURN && c->mode == 1) {
		churned++;
		finish(c, CHURN);
		return;
	}
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	// Slow ones are read by the clock, stuck ones never; an end of the connection is heard.
	if (c->kind == SLOW || c->kind == STUCK)
		e.events = 0;
	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

// Reads at most max bytes once; false at the end of the connection.
static ssize_t take(struct conn *c, size_t max)
{
	ssize_t n;
	bool in_body = c->http == BODY && c->part == BODY && !decode;
	if (fast && (c->kind == NORMAL || c->kind == STOP)) {
		uint64_t bulk = in_body && c->pos >= sizeof c->first && c->left > 64 ? c->left - 64 : 0;
		if (bulk && c->chunked && c->chunk_left < bulk)
			bulk = c->chunk_left > 1 ? c->chunk_left - 1 : 0;
		if (bulk) {
			n = recv(c->fd, NULL, bulk, MSG_TRUNC | MSG_DONTWAIT);
			if (n > 0) {
				c->pos += n;
				c->left -= n;
				memcpy(c->last, "\xff\xd9", 2); // not seen: taken as good if only padding follows
				if (c->chunked)
					c->chunk_left -= n;
			}
			goto out;
		}
		max = in_body && c->pos >= sizeof c->first ? 128 : 1024;
	}
	n = recv(c->fd, buf, max < sizeof buf ? max : sizeof buf, MSG_DONTWAIT);
	if (n > 0 && !feed(c, buf, n))
		n = 0;
out:
	if (n > 0) {
		received += n;
		if (window)
			c->bytes += n;
	} else if (!n || (errno != EAGAIN && errno != EINTR)) {
		if (c->kind == CHURN && c->open)
			churn_failed++;
		finish(c, c->kind);
		return 0;
	}
	if (c->kind == CHURN && c->first_frame) {
		churned++;
		finish(c, CHURN);
	}
	return n;
}

static int by_float(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
}

static void print_ages(const char *name, struct ages *a)
{
	qsort(a->v, a->n, sizeof *a->v, by_float);
#define Q(q) (a->n ? a->v[(size_t)(q * (a->n - 1))] : 0)
	printf("\"%s\":{\"n\":%zu,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"max\":%.2f}", name, a->n, Q(0.5),
	       Q(0.9), Q(0.99), Q(1));
}

static void report(const char *name, struct conn *c, int n, double secs)
{
	struct ages fps = { 0 }, ttff = { 0 };
	uint64_t frames = 0, bytes = 0, bad = 0, gaps = 0;
	int connected = 0;
	for (int i = 0; i < n; i++) {
		connected += c[i].first_frame != 0;
		frames += c[i].frames;
		bytes += c[i].bytes;
		bad += c[i].bad;
		gaps += c[i].gaps;
		age_add(&fps, c[i].frames / secs);
		if (c[i].first_frame)
			age_add(&ttff, (c[i].first_frame - c[i].began) / 1e6);
	}
	if (n)
		qsort(fps.v, fps.n, sizeof *fps.v, by_float);
	printf("\"%s\":{\"clients\":%d,\"connected\":%d,\"failed\":%d,\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64
	       ",\"fps_min\":%.2f,\"fps_med\":%.2f,\"bad\":%" PRIu64 ",\"gaps\":%" PRIu64 ",",
	       name, n, connected, n - connected, frames, bytes, n ? fps.v[0] : 0, n ? fps.v[n / 2] : 0, bad,
	       gaps);
	print_ages("first_frame_ms", &ttff);
	printf("},");
}

int main(int argc, char **argv)
{
	int n = 1, slow = 0, stuck = 0, stop = 0, churn = 0, o, started = 0, patience = 20;
	double secs = 10, warm = 0, kbit = 1000;
	while ((o = getopt(argc, argv, "p:h:u:n:t:w:i:FDl:s:r:x:y:z:c:m:b:")) != -1)
		switch (o) {
		case 'p': addr.sin_port = htons(atoi(optarg)); break;
		case 'h': host = optarg; break;
		case 'u': path = optarg; break;
		case 'n': n = atoi(optarg); break;
		case 't': secs = atof(optarg); break;
		case 'w': warm = atof(optarg); break;
		case 'F': fast = true; break;
		case 'D': decode = true; break;
		case 's': slow = atoi(optarg); break;
		case 'r': kbit = atof(optarg); break;
		case 'x': stuck = atoi(optarg); break;
		case 'y': stop = atoi(optarg); break;
		case 'z': stop_after = atof(optarg); break;
		case 'l': frame_log = fopen(optarg, "w"); break;
		case 'c': churn = atoi(optarg); break;
		case 'm': mss = atoi(optarg); break;
		case 'b': rcvbuf = atoi(optarg); break;
		case 'i': patience = atoi(optarg); break;
		default: fprintf(stderr, "usage: see the top of viewers.c\n"); return 2;
		}
	if (!addr.sin_port || inet_pton(AF_INET, host, &addr.sin_addr) != 1) {
		fprintf(stderr, "viewers: need -p PORT and an IPv4 address\n");
		return 2;
	}
	int total = n + slow + stuck + stop, churners = churn ? 512 : 0;
	struct conn *c = calloc(total + churners + 1, sizeof *c), *ch = c + total;
	for (int i = 0; i < total + churners; i++) {
		c[i].fd = -1;
		c[i].kind = i < n ? NORMAL : i < n + slow ? SLOW : i < n + slow + stuck ? STUCK : i < total ? STOP : CHURN;
	}
	all_conns = c;
	ep = epoll_create1(EPOLL_CLOEXEC);
	uint64_t t0 = now_ns(), ready_at = 0, begin = 0, prev_slow = t0;
	uint64_t churn_started = 0;
	struct rusage ru0 = { 0 }, ru1;
	double took;
	for (;;) {
		struct epoll_event ev[256];
		int k = epoll_wait(ep, ev, 256, slow || churn ? 4 : 20);
		for (int i = 0; i < k; i++) {
			struct conn *x = ev[i].data.ptr;
			if (x->fd < 0)
				continue;
			if (x->http == CONNECTING)
				on_connected(x);
			else if (x->kind == STUCK || x->stopped)
				finish(x, x->kind); // only a reset is reported for these
			else
				for (int r = fast ? 4 : 1; r && take(x, sizeof buf) > 0 && x->fd >= 0; r--)
					;
		}
		uint64_t now = now_ns();
		// Open the wanted connections, a few at a time so as not to overrun a listen backlog.
		int waiting = 0, first = 0, lost = 0;
		if (!begin) {
			for (int i = 0; i < started; i++) {
				waiting += c[i].fd >= 0 && (c[i].http == CONNECTING || c[i].http == HEAD) && c[i].kind != STUCK;
				first += c[i].first_frame || (c[i].kind == STUCK && c[i].open);
				lost += c[i].fd < 0 && !c[i].first_frame;
			}
			while (started < total && waiting < 64) {
				start(&c[started++]);
				waiting++;
			}
			if (!ready_at && started == total && first + lost == total)
				ready_at = now;
			if (!ready_at && now - t0 > patience * 1e9)
				ready_at = now;
			if (ready_at && now - ready_at >= warm * 1e9) {
				begin = now;
				window = true;
				window_ns = now;
				getrusage(RUSAGE_SELF, &ru0);
				puts("start");
				fflush(stdout);
			}
		}
		// Slow readers: a token bucket.
		if (slow && now - prev_slow >= 10000000) {
			double add = kbit * 125 * (now - prev_slow) / 1e9;
			prev_slow = now;
			for (int i = n; i < n + slow; i++)
				if (c[i].fd >= 0 && c[i].http != CONNECTING) {
					c[i].tokens += add;
					if (c[i].tokens > add * 4)
						c[i].tokens = add * 4;
					if (c[i].tokens >= 1) {
						ssize_t got = take(&c[i], c[i].tokens);
						c[i].tokens -= got > 0 ? got : 0;
					}
				}
		}
		for (int i = total - stop; i < total; i++)
			if (c[i].fd >= 0 && c[i].first_frame && !c[i].stopped &&
			    now - c[i].first_frame >= stop_after * 1e9) {
				struct epoll_event none = { .events = 0, .data.ptr = &c[i] };
				epoll_ctl(ep, EPOLL_CTL_MOD, c[i].fd, &none);
				c[i].stopped = true;
			}
		if (begin && churn) {
			uint64_t due = (now - begin) / 1e9 * churn;
			for (int i = 0; i < churners && churn_started < due; i++)
				if (ch[i].fd < 0) {
					memset(&ch[i], 0, sizeof *ch);
					ch[i].kind = CHURN;
					ch[i].mode = churn_started++ % 3;
					if (!start(&ch[i]))
						churn_failed++;
				} else if (now - ch[i].began > 5000000000ull) {
					churn_failed++;
					finish(&ch[i], CHURN);
				}
		}
		if (begin && now - begin >= secs * 1e9) {
			took = (now - begin) / 1e9;
			break;
		}
	}
	puts("end");
	fflush(stdout);
	getrusage(RUSAGE_SELF, &ru1);
#define CPU(f) (ru1.f.tv_sec - ru0.f.tv_sec + (ru1.f.tv_usec - ru0.f.tv_usec) / 1e6)
	if (frame_log)
		fclose(frame_log);
	printf("{\"seconds\":%.3f,\"client_cpu\":%.3f,", took, CPU(ru_utime) + CPU(ru_stime));
	report("normal", c, n, took);
	report("slow", c + n, slow, took);
	int stuck_open = 0, stop_open = 0;
	for (int i = n + slow; i < total; i++)
		*(c[i].kind == STUCK ? &stuck_open : &stop_open) += c[i].fd >= 0 && c[i].open;
	printf("\"stuck\":{\"clients\":%d,\"open\":%d},", stuck, stuck_open);
	printf("\"stop\":{\"clients\":%d,\"open\":%d},", stop, stop_open);
	printf("\"churn\":{\"started\":%" PRIu64 ",\"done\":%" PRIu64 ",\"failed\":%" PRIu64 "},", churn_started,
	       churned, churn_failed);
	printf("\"closed_by_server\":%" PRIu64 ",\"unstamped\":%" PRIu64 ",\"received\":%" PRIu64 ",", closed,
	       unstamped, received);
	print_ages("age_ms", &ages[0]);
	printf(",");
	print_ages("slow_age_ms", &ages[1]);
	printf("}\n");
	return 0;
}
