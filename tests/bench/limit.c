// The bare limit: the least that it costs to send these frames to so many viewers. One thread, epoll,
// an answer that does not depend on the question, the same part heads and bytes as a server's, and no
// server around it. A viewer that has not taken a frame yet skips the next ones. Every frame is
// stamped (stamp.h).
//
//   limit [--by WAY] [--copy] [--reuse] [--lowat BYTES] [--host ADDRESS] PORT FOLDER-OF-JPG FPS
//
//   --by writev     head and frame in one call; the kernel copies (the default)
//        sendfile   the frame in a memory file, sent by reference
//        splice     the same, through a pipe of our own
//        zerocopy   from memory, with MSG_ZEROCOPY
//   --copy          writev: each frame is copied first, as the other ways must and as a server does
//   --reuse         one memory file, rewritten for each frame: WRONG, for the proof that it is
//   --lowat         TCP_NOTSENT_LOWAT
//
// INVARIANT: a page that any socket may still hold is never written. So each frame has a memory file
// of its own, which is closed when the last viewer has taken it; the kernel keeps its pages as long as
// a socket refers to them. MSG_ZEROCOPY says itself when it is done with the memory.
// At SIGTERM it prints how many sends by MSG_ZEROCOPY there were, and how many the kernel copied.
#define _GNU_SOURCE
#include "stamp.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/errqueue.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define BOUND "\r\n--limit\r\n"
#define BOUND_N (sizeof BOUND - 1)
#define CLIENTS 4096
#define IN_FLIGHT 64 // sends by MSG_ZEROCOPY of one client that are not done yet

enum way { WRITEV, SENDFILE, SPLICE, ZEROCOPY };
static const char *const ways[] = { "writev", "sendfile", "splice", "zerocopy", NULL };

// A part: head and stamp, then the rest of the JPEG and the next boundary.
struct frame {
	int refs, memfd; // memfd: -1 when the bytes are in memory
	bool own;        // bytes is to be freed
	size_t head_n, n;
	uint8_t *bytes;
	char head[256];
};
struct client {
	int fd;
	bool asked, blocked;
	struct frame *frame; // that is being sent
	size_t sent;         // of its head and bytes
	uint32_t begun, done; // sends by MSG_ZEROCOPY
	struct frame *held[IN_FLIGHT];
};
struct jpeg { uint8_t *p; size_t n; };

static enum way way;
static bool copy, reuse;
static int reused = -1, tube[2], null;
static struct client *clients[CLIENTS];
static int n_clients, ep;
static uint64_t zero_sent, zero_copied;
static volatile sig_atomic_t ended;

static void end(int signal) { ended = signal; }
static int is_jpg(const struct dirent *e) { return strstr(e->d_name, ".jpg") != NULL; }

static void release(struct frame *f)
{
	if (--f->refs)
		return;
	if (f->memfd >= 0 && f->memfd != reused)
		close(f->memfd);
	if (f->own)
		free(f->bytes);
	free(f);
}

static struct frame *make(const struct jpeg *j, uint32_t seq, uint64_t ns)
{
	struct frame *f = calloc(1, sizeof *f);
	f->refs = 1;
	f->memfd = -1;
	f->bytes = j->p + 2;
	f->n = j->n - 2 + BOUND_N;
	f->head_n = snprintf(f->head, sizeof f->head,
			     "Content-Type: image/jpeg\r\nContent-Length: %zu\r\n\r\n", j->n + STAMP_COM);
	f->head_n += stamp_write((uint8_t *)f->head + f->head_n, seq, ns);
	if (way == SENDFILE || way == SPLICE) {
		f->memfd = reuse && reused >= 0 ? reused : memfd_create("frame", MFD_CLOEXEC);
		if (f->memfd < 0 || pwrite(f->memfd, f->bytes, f->n, 0) != (ssize_t)f->n)
			err(1, "memory file");
		if (reuse)
			reused = f->memfd;
	} else if (way == ZEROCOPY || copy) {
		f->own = true;
		f->bytes = memcpy(malloc(f->n), f->bytes, f->n);
	}
	return f;
}

static void drop(struct client *c)
{
	for (int i = 0; i < n_clients; i++)
		if (clients[i] == c)
			clients[i] = clients[--n_clients];
	// A reset: what the kernel still holds of our memory is let go before the memory is.
	struct linger now = { 1, 0 };
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(c->fd);
	for (; c->done != c->begun; c->done++)
		release(c->held[c->done % IN_FLIGHT]);
	if (c->frame)
		release(c->frame);
	free(c);
}

// Memory file to pipe to socket. What the socket does not take is thrown out of the pipe again, for
// the next one needs it empty; the memory file still has it.
static ssize_t splice_some(int fd, int memfd, off_t at, size_t n)
{
	ssize_t in = splice(memfd, &at, tube[1], NULL, n, SPLICE_F_NONBLOCK);
	if (in <= 0)
		return in;
	ssize_t out = splice(tube[0], NULL, fd, NULL, in, SPLICE_F_NONBLOCK);
	int error = errno;
	for (ssize_t left = in - (out > 0 ? out : 0), k; left > 0; left -= k)
		if ((k = splice(tube[0], NULL, null, NULL, left, 0)) <= 0)
			err(1, "empty the pipe");
	errno = error;
	return out;
}

static ssize_t zerocopy_some(struct client *c, uint8_t *p, size_t n)
{
	if (c->begun - c->done == IN_FLIGHT)
		return send(c->fd, p, n, MSG_NOSIGNAL);
	ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_ZEROCOPY);
	if (sent < 0 && errno == ENOBUFS) // too many notices wait to be read
		return send(c->fd, p, n, MSG_NOSIGNAL);
	if (sent > 0) {
		c->held[c->begun++ % IN_FLIGHT] = c->frame;
		c->frame->refs++;
		zero_sent++;
	}
	return sent;
}

// Reads the notices of finished sends by MSG_ZEROCOPY.
static void notices(struct client *c)
{
	for (;;) {
		char control[128];
		struct msghdr m = { .msg_control = control, .msg_controllen = sizeof control };
		if (recvmsg(c->fd, &m, MSG_ERRQUEUE) < 0)
			return;
		for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
			struct sock_extended_err *e = (void *)CMSG_DATA(h);
			if (e->ee_origin != SO_EE_ORIGIN_ZEROCOPY)
				continue;
			// TCP tells in order.
			if (e->ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
				zero_copied += e->ee_data - e->ee_info + 1;
			for (; c->done != e->ee_data + 1 && c->done != c->begun; c->done++)
				release(c->held[c->done % IN_FLIGHT]);
		}
	}
}

static ssize_t some(struct client *c)
{
	struct frame *f = c->frame;
	size_t at = c->sent < f->head_n ? 0 : c->sent - f->head_n;
	if (way == WRITEV) {
		size_t head = c->sent < f->head_n ? f->head_n - c->sent : 0;
		struct iovec v[2] = { { f->head + c->sent, head }, { f->bytes + at, f->n - at } };
		return head ? writev(c->fd, v, 2) : writev(c->fd, v + 1, 1);
	}
	if (c->sent < f->head_n)
		return send(c->fd, f->head + c->sent, f->head_n - c->sent, MSG_NOSIGNAL | MSG_MORE);
	off_t offset = at;
	switch (way) {
	case SENDFILE: return sendfile(c->fd, f->memfd, &offset, f->n - at);
	case SPLICE: return splice_some(c->fd, f->memfd, at, f->n - at);
	default: return zerocopy_some(c, f->bytes + at, f->n - at);
	}
}

// Sends what is left; false if the client is gone.
static bool push(struct client *c)
{
	bool blocked = false;
	while (c->frame && !blocked) {
		size_t left = c->frame->head_n + c->frame->n - c->sent;
		ssize_t n = some(c);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		c->sent += n > 0 ? n : 0;
		if (n > 0 && (size_t)n == left) {
			release(c->frame);
			c->frame = NULL;
		}
		// What writev has not taken does not fit; the other ways stop at the end of the head, at
		// the size of a pipe, and at other edges.
		blocked = n <= 0 || (way == WRITEV && c->frame);
	}
	if (blocked != c->blocked) {
		c->blocked = blocked;
		struct epoll_event e = { .events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c };
		epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
	}
	return true;
}

static struct jpeg *load(const char *folder, int *n)
{
	struct dirent **names;
	*n = scandir(folder, &names, is_jpg, alphasort);
	if (*n < 1)
		errx(1, "%s: no .jpg files", folder);
	struct jpeg *jpegs = calloc(*n, sizeof *jpegs);
	for (int i = 0; i < *n; i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
		FILE *f = fopen(path, "rb");
		if (!f)
			err(1, "%s", path);
		fseek(f, 0, SEEK_END);
		jpegs[i].n = ftell(f);
		rewind(f);
		jpegs[i].p = malloc(jpegs[i].n + BOUND_N);
		if (fread(jpegs[i].p, 1, jpegs[i].n, f) != jpegs[i].n)
			err(1, "%s", path);
		fclose(f);
		memcpy(jpegs[i].p + jpegs[i].n, BOUND, BOUND_N);
	}
	return jpegs;
}

static int listen_at(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		errx(2, "%s: not an IPv4 address", host);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024))
		err(1, "%s:%s", host, port);
	return fd;
}

static void welcome(int listener, int lowat)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (n_clients == CLIENTS) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (lowat)
		setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
	if (way == ZEROCOPY && setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one))
		err(1, "SO_ZEROCOPY");
	struct client *c = clients[n_clients++] = calloc(1, sizeof *c);
	c->fd = fd;
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

// Answers, goes on sending; false if the client is gone.
static bool serve(struct client *c, uint32_t events)
{
	static const char answer[] =
		"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=limit\r\n" BOUND;
	char request[4096];
	if (events & EPOLLERR && way == ZEROCOPY)
		notices(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = read(c->fd, request, sizeof request);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return false;
		if (n > 0 && !c->asked) {
			send(c->fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
			c->asked = true;
		}
	}
	return !(events & EPOLLOUT) || push(c);
}

static void tick(const struct jpeg *j, uint32_t seq, uint64_t ns)
{
	struct frame *f = make(j, seq, ns);
	for (int i = n_clients - 1; i >= 0; i--) {
		struct client *c = clients[i];
		if (!c->asked || c->frame)
			continue;
		c->frame = f;
		c->sent = 0;
		f->refs++;
		if (!push(c))
			drop(c);
	}
	release(f);
}

static enum way way_of(const char *name)
{
	for (int i = 0; ways[i]; i++)
		if (!strcmp(ways[i], name))
			return i;
	errx(2, "%s: no such way; there are writev, sendfile, splice, zerocopy", name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "by", 1, 0, 'b' }, { "copy", 0, 0, 'c' }, { "reuse", 0, 0, 'r' }, { "lowat", 1, 0, 'l' },
		{ "host", 1, 0, 'h' }, { 0, 0, 0, 0 },
	};
	const char *host = "127.0.0.1";
	int o, n, lowat = 0;
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (o) {
		case 'b': way = way_of(optarg); break;
		case 'c': copy = true; break;
		case 'r': reuse = true; break;
		case 'l': lowat = atoi(optarg); break;
		case 'h': host = optarg; break;
		default: return 2;
		}
	if (argc - optind != 3)
		errx(2, "usage: limit [OPTIONS] PORT FOLDER-OF-JPG FPS");
	struct jpeg *jpegs = load(argv[optind + 1], &n);
	if (way == SPLICE && (pipe2(tube, O_NONBLOCK) || fcntl(tube[1], F_SETPIPE_SZ, 1 << 20) < 0 ||
			      (null = open("/dev/null", O_WRONLY)) < 0))
		err(1, "pipe");
	signal(SIGPIPE, SIG_IGN);
	struct sigaction action = { .sa_handler = end };
	sigaction(SIGTERM, &action, NULL);
	int listener = listen_at(host, argv[optind]), timer = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t period = 1e9 / atof(argv[optind + 2]), next = now_ns() + period, seq = 0;
	struct itimerspec t = { { period / 1000000000, period % 1000000000 },
				{ next / 1000000000, next % 1000000000 } };
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &t, NULL);
	ep = epoll_create1(0);
	struct epoll_event tick_event = { .events = EPOLLIN, .data.ptr = &timer };
	struct epoll_event door_event = { .events = EPOLLIN, .data.ptr = &listener };
	epoll_ctl(ep, EPOLL_CTL_ADD, timer, &tick_event);
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &door_event);
	while (!ended) {
		struct epoll_event ev[64];
		uint64_t late = 0;
		int k = epoll_wait(ep, ev, 64, -1);
		for (int i = 0; i < k; i++) {
			if (ev[i].data.ptr == &timer) {
				if (read(timer, &late, 8) != 8)
					late = 0;
			} else if (ev[i].data.ptr == &listener)
				welcome(listener, lowat);
			else if (!serve(ev[i].data.ptr, ev[i].events))
				drop(ev[i].data.ptr); // one event a client and round: no later one points at it
		}
		if (!late)
			continue;
		seq += late;
		next += (late - 1) * period;
		tick(&jpegs[seq % n], seq, next);
		next += period;
	}
	if (way == ZEROCOPY)
		printf("zerocopy %" PRIu64 " copied %" PRIu64 "\n", zero_sent, zero_copied);
	return 0;
}
