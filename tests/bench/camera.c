// A camera for speed comparisons: preloaded into a server, it makes a path behave as a V4L2 device.
//
//   CAMERA_FRAMES=FOLDER LD_PRELOAD=camera.so SERVER ...
//
//   CAMERA_DEVICE   path of the device (/dev/video0); need not exist on the disk
//   CAMERA_FRAMES   folder of .jpg files, shown in turn in the order of their names, for MJPG
//   CAMERA_FORMATS  formats offered, in order (MJPG,YUYV,NV12,RGB3); MJPG only with CAMERA_FRAMES
//   CAMERA_SIZE     WIDTHxHEIGHT (that of the first .jpg, else 640x480)
//   CAMERA_FPS      frames a second (30)
//   CAMERA_RT       0: no real-time priority for the thread that makes the frames
//
// It lets servers that know nothing of it be compared on any machine, with the same frames at the same
// times. What real devices do, and how they fail, is shown by the kernel's own in ../guest.
//
// How: `open` returns one end of a socketpair, so `poll`, `select` and `epoll` need no interception:
// one byte is in it for each finished buffer. An ioctl thus becomes work in memory, and VIDIOC_DQBUF a
// `recv` of that byte. Buffers live in a memory file, and `mmap` of the device is sent there. The
// thread "preload" makes a frame at each tick, into the oldest queued buffer; without one the frame is
// lost, and the sequence number rises all the same. Every frame has its number and the time of its
// tick in it, see stamp.h. The files of frames and the buffers are shared mappings, so that they can
// be told from the server's own memory, and the thread's time from the server's.
//
// Unlike a real device: no `dup` and no `fork` while it is open, no controls, programs without libc
// are not caught.
#define _GNU_SOURCE
#include "stamp.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define HANDLES 16
#define BUFFERS 32
#define EXPORT __attribute__((visibility("default")))

static struct {
	int (*open)(const char *, int, ...);
	int (*close)(int);
	int (*ioctl)(int, unsigned long, ...);
	void *(*mmap)(void *, size_t, int, int, int, off_t);
	long (*syscall)(long, ...);
} real;

enum state { DEQUEUED, QUEUED, DONE };
struct handle { atomic_int fd; int peer; }; // fd is one more than the descriptor, 0 when free
struct buffer { enum state state; bool mapped; uint32_t used, seq; uint64_t ns; };
struct fifo { int n, at[BUFFERS]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER, made = PTHREAD_COND_INITIALIZER;
static struct handle handles[HANDLES];

static const char *device = "/dev/video0";
static uint32_t formats[8], n_formats, width, height;
static double fps = 30;
static struct { const uint8_t *p; size_t n; } *jpegs;
static size_t n_jpegs, jpeg_max;
static struct v4l2_pix_format pix;
static uint8_t *picture; // raw formats: two copies of it, to scroll through
static size_t picture_n;

// The queue of buffers, of one handle at a time, as in a driver.
static struct {
	struct handle *owner;
	bool streaming;
	int memfd;
	uint8_t *map;
	uint32_t n, stride, seq;
	struct buffer b[BUFFERS];
	struct fifo in, out;
} q;

static int fail(int e) { errno = e; return -1; }

static void resolve(void)
{
	if (real.syscall)
		return;
	real.open = dlsym(RTLD_NEXT, "open64");
	real.close = dlsym(RTLD_NEXT, "close");
	real.ioctl = dlsym(RTLD_NEXT, "ioctl");
	real.mmap = dlsym(RTLD_NEXT, "mmap64");
	real.syscall = dlsym(RTLD_NEXT, "syscall");
}

static struct handle *find(int fd)
{
	if (fd >= 0)
		for (int i = 0; i < HANDLES; i++)
			if (atomic_load_explicit(&handles[i].fd, memory_order_acquire) == fd + 1)
				return &handles[i];
	return NULL;
}

// glibc declares that the arguments of stat, open and their like are never null, and gcc then leaves
// out every check. Programs do pass null, to ask whether the kernel knows a call.
static inline const void *maybe_null(const void *p)
{
	__asm__("" : "+r"(p));
	return p;
}

static bool is_device(const char *path)
{
	const char *p = maybe_null(path);
	return p && !strcmp(p, device);
}

static bool is_empty(const char *path)
{
	const char *p = maybe_null(path);
	return p && !*p;
}

// ---- settings and files, once ----

static void size_of_jpeg(const uint8_t *p, size_t n)
{
	for (size_t i = 2; i + 9 < n && p[i] == 0xff; i += 2 + (p[i + 2] << 8 | p[i + 3]))
		if (p[i + 1] >= 0xc0 && p[i + 1] <= 0xc2) {
			height = p[i + 5] << 8 | p[i + 6];
			width = p[i + 7] << 8 | p[i + 8];
			return;
		}
}

static int is_jpg(const struct dirent *e)
{
	size_t n = strlen(e->d_name);
	return n > 4 && !strcmp(e->d_name + n - 4, ".jpg");
}

static void load_frames(const char *folder)
{
	struct dirent **names;
	int n = folder ? scandir(folder, &names, is_jpg, alphasort) : 0;
	jpegs = calloc(n > 0 ? n : 1, sizeof *jpegs);
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		struct stat st;
		snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
		int fd = real.open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && !real.syscall(SYS_fstat, fd, &st) && st.st_size > 4) {
			void *p = real.mmap(NULL, st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
			if (p != MAP_FAILED) {
				jpegs[n_jpegs].p = p;
				jpegs[n_jpegs++].n = st.st_size;
				if ((size_t)st.st_size > jpeg_max)
					jpeg_max = st.st_size;
			}
		}
		if (fd >= 0)
			real.close(fd);
		free(names[i]);
	}
	if (n >= 0 && folder)
		free(names);
	if (n_jpegs)
		size_of_jpeg(jpegs[0].p, jpegs[0].n);
}

static void set_format(uint32_t fourcc);

static void load(void)
{
	static bool loaded;
	const char *list = getenv("CAMERA_FORMATS"), *v;
	if (loaded)
		return;
	loaded = true;
	load_frames(getenv("CAMERA_FRAMES"));
	if ((v = getenv("CAMERA_SIZE")))
		sscanf(v, "%" SCNu32 "x%" SCNu32, &width, &height);
	if ((v = getenv("CAMERA_FPS")) && atof(v) > 0)
		fps = atof(v);
	width = width ? width & ~3u : 640;
	height = height ? height & ~3u : 480;
	for (list = list ? list : "MJPG,YUYV,NV12,RGB3"; strlen(list) >= 4 && n_formats < 8;
	     list += list[4] ? 5 : 4) {
		uint32_t f = v4l2_fourcc(list[0], list[1], list[2], list[3]);
		if (f != V4L2_PIX_FMT_MJPEG || n_jpegs)
			formats[n_formats++] = f;
	}
	set_format(formats[0]);
}

// ---- formats ----

static void describe(struct v4l2_pix_format *p)
{
	uint32_t f = formats[0], area = width * height;
	for (uint32_t i = 0; i < n_formats; i++)
		if (formats[i] == p->pixelformat)
			f = formats[i];
	memset(p, 0, sizeof *p);
	p->pixelformat = f;
	p->width = width;
	p->height = height;
	p->field = V4L2_FIELD_NONE;
	p->priv = V4L2_PIX_FMT_PRIV_MAGIC;
	p->colorspace = V4L2_COLORSPACE_SRGB;
	switch (f) {
	case V4L2_PIX_FMT_MJPEG:
		p->sizeimage = area * 2 > jpeg_max + STAMP_COM ? area * 2 : jpeg_max + STAMP_COM;
		break;
	case V4L2_PIX_FMT_NV12: p->bytesperline = width; p->sizeimage = area * 3 / 2; break;
	case V4L2_PIX_FMT_RGB24: p->bytesperline = width * 3; p->sizeimage = area * 3; break;
	default: p->bytesperline = width * 2; p->sizeimage = area * 2;
	}
}

// Two copies of a picture, one above the other (NV12: luma twice, then chroma twice).
static void paint(void)
{
	uint32_t w = width, h = height, seed = 1;
	if (picture)
		munmap(picture, picture_n);
	picture = NULL;
	if (pix.pixelformat == V4L2_PIX_FMT_MJPEG)
		return;
	picture_n = pix.sizeimage * 2;
	picture = real.mmap(NULL, picture_n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (uint32_t y = 0; y < h; y++)
		for (uint32_t x = 0; x < w; x++) {
			seed = seed * 1664525 + 1013904223;
			int noise = (int)(seed >> 28) - 8, cx = x / 80, cy = y / 60;
			int l = 40 + x * 100 / w + y * 60 / h + ((cx * 7 + cy * 13) % 5 ? 0 : 35) + noise;
			uint8_t u = 90 + x * 70 / w, v = 90 + y * 70 / h;
			for (int k = 0; k < 2; k++) {
				uint8_t *p = picture + (size_t)(y + k * h) * pix.bytesperline;
				if (pix.pixelformat == V4L2_PIX_FMT_NV12) {
					p[x] = l;
					uint8_t *c = picture + (size_t)w * h * 2 + (size_t)(y / 2 + k * h / 2) * w;
					c[x] = x & 1 ? v : u;
				} else if (pix.pixelformat == V4L2_PIX_FMT_RGB24) {
					p[3 * x] = l;
					p[3 * x + 1] = (l + u) / 2;
					p[3 * x + 2] = (l + v) / 2;
				} else {
					p[2 * x] = l;
					p[2 * x + 1] = x & 1 ? v : u;
				}
			}
		}
}

static void set_format(uint32_t fourcc)
{
	struct v4l2_pix_format old = pix;
	pix.pixelformat = fourcc;
	describe(&pix);
	if (memcmp(&old, &pix, sizeof pix))
		paint();
}

static bool is_format(uint32_t fourcc)
{
	for (uint32_t i = 0; i < n_formats; i++)
		if (formats[i] == fourcc)
			return true;
	return false;
}

// ---- frames ----

static uint32_t fill(uint8_t *to, uint32_t seq, uint64_t ns)
{
	if (pix.pixelformat == V4L2_PIX_FMT_MJPEG) {
		size_t i = seq % n_jpegs, n = stamp_write(to, seq, ns);
		memcpy(to + n, jpegs[i].p + 2, jpegs[i].n - 2);
		return n + jpegs[i].n - 2;
	}
	uint32_t w = width, h = height, row = seq * 4 % h, line = pix.bytesperline;
	memcpy(to, picture + (size_t)row * line, (size_t)h * line);
	if (pix.pixelformat == V4L2_PIX_FMT_NV12)
		memcpy(to + (size_t)w * h, picture + (size_t)w * h * 2 + (size_t)row / 2 * w, (size_t)w * h / 2);
	uint64_t bits = stamp_bits(seq, ns);
	for (uint32_t y = 0; w >= 512 && y < 32; y++)
		for (uint32_t x = 0; x < 512; x++) {
			uint8_t l = bits >> (63 - (y / 16 * 32 + x / 16)) & 1 ? 235 : 16;
			if (pix.pixelformat == V4L2_PIX_FMT_RGB24) {
				memset(to + y * line + 3 * x, l, 3);
			} else if (pix.pixelformat == V4L2_PIX_FMT_NV12) {
				to[y * line + x] = l;
				to[w * h + y / 2 * w + x] = 128;
			} else {
				to[y * line + 2 * x] = l;
				to[y * line + 2 * x + 1] = 128;
			}
		}
	return pix.sizeimage;
}

static void produce(uint64_t ns)
{
	if (!q.in.n)
		return;
	int i = q.in.at[0];
	struct buffer *b = &q.b[i];
	memmove(q.in.at, q.in.at + 1, --q.in.n * sizeof(int));
	b->used = fill(q.map + (size_t)i * q.stride, q.seq, ns);
	b->seq = q.seq;
	b->ns = ns;
	b->state = DONE;
	q.out.at[q.out.n++] = i;
	send(q.owner->peer, "f", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	pthread_cond_signal(&made);
}

static void *frame_thread(void *arg)
{
	uint64_t next = now_ns();
	(void)arg;
	pthread_mutex_lock(&lock);
	for (;;) {
		if (!q.streaming) {
			pthread_cond_wait(&begun, &lock);
			next = now_ns();
			continue;
		}
		uint64_t period = 1e9 / fps;
		next += period;
		struct timespec t = { next / 1000000000, next % 1000000000 };
		pthread_mutex_unlock(&lock);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		pthread_mutex_lock(&lock);
		uint64_t now = now_ns(), late = now > next ? (now - next) / period : 0;
		next += late * period;
		if (q.streaming) {
			q.seq += late;
			produce(next);
			q.seq++;
		}
	}
	return NULL;
}

static void start_thread(void)
{
	static bool started;
	sigset_t all, old;
	pthread_t t;
	struct sched_param priority = { .sched_priority = 10 };
	if (started)
		return;
	started = true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_create(&t, NULL, frame_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_setname_np(t, "preload");
	if (!getenv("CAMERA_RT") || atoi(getenv("CAMERA_RT")))
		pthread_setschedparam(t, SCHED_FIFO, &priority);
	pthread_detach(t);
}

// ---- buffers ----

static void stream_off(void)
{
	char sink[BUFFERS];
	q.streaming = false;
	q.in.n = q.out.n = 0;
	for (int i = 0; i < BUFFERS; i++)
		q.b[i].state = DEQUEUED;
	recv(q.owner->fd - 1, sink, sizeof sink, MSG_DONTWAIT);
	pthread_cond_broadcast(&made);
}

static void free_buffers(void)
{
	if (q.map)
		munmap(q.map, (size_t)q.n * q.stride);
	if (q.memfd > 0)
		real.close(q.memfd);
	memset(&q, 0, sizeof q);
}

static int make_buffers(struct handle *h, uint32_t count)
{
	uint32_t page = sysconf(_SC_PAGESIZE);
	count = count < 2 ? 2 : count > BUFFERS ? BUFFERS : count;
	size_t stride = (pix.sizeimage + page - 1) / page * page;
	q.memfd = memfd_create("preload", MFD_CLOEXEC);
	if (q.memfd < 0 || ftruncate(q.memfd, count * stride))
		return -1;
	q.map = real.mmap(NULL, count * stride, PROT_READ | PROT_WRITE, MAP_SHARED, q.memfd, 0);
	q.owner = h;
	q.stride = stride;
	return q.n = count;
}

static void buffer_info(struct v4l2_buffer *b, uint32_t i)
{
	const struct buffer *s = &q.b[i];
	memset(b, 0, sizeof *b);
	b->index = i;
	b->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	b->memory = V4L2_MEMORY_MMAP;
	b->m.offset = i * q.stride;
	b->length = q.stride;
	b->field = V4L2_FIELD_NONE;
	b->bytesused = s->used;
	b->sequence = s->seq;
	b->timestamp.tv_sec = s->ns / 1000000000;
	b->timestamp.tv_usec = s->ns % 1000000000 / 1000;
	b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_EOF |
		   (s->mapped ? V4L2_BUF_FLAG_MAPPED : 0) |
		   (s->state == QUEUED ? V4L2_BUF_FLAG_QUEUED : 0) |
		   (s->state == DONE ? V4L2_BUF_FLAG_DONE : 0);
}

static int dequeue(struct handle *h, int fd, struct v4l2_buffer *b)
{
	char c;
	while (q.owner == h && q.streaming && !q.out.n) {
		if (fcntl(fd, F_GETFL) & O_NONBLOCK)
			return fail(EAGAIN);
		pthread_cond_wait(&made, &lock);
	}
	if (q.owner != h || !q.streaming)
		return fail(EINVAL);
	int i = q.out.at[0];
	memmove(q.out.at, q.out.at + 1, --q.out.n * sizeof(int));
	recv(fd, &c, 1, MSG_DONTWAIT);
	q.b[i].state = DEQUEUED;
	buffer_info(b, i);
	return 0;
}

// ---- the ioctls, with the lock held ----

static void fraction(struct v4l2_fract *f)
{
	bool whole = fps == (uint32_t)fps;
	f->numerator = whole ? 1 : 1000;
	f->denominator = whole ? fps : fps * 1000;
}

static int enumerate(unsigned req, void *arg)
{
	if (req == (unsigned)VIDIOC_ENUM_FMT) {
		struct v4l2_fmtdesc *f = arg;
		uint32_t i = f->index;
		if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || i >= n_formats)
			return fail(EINVAL);
		memset(f, 0, sizeof *f);
		f->index = i;
		f->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
		f->pixelformat = formats[i];
		f->flags = formats[i] == V4L2_PIX_FMT_MJPEG ? V4L2_FMT_FLAG_COMPRESSED : 0;
		memcpy(f->description, &formats[i], 4);
		return 0;
	}
	if (req == (unsigned)VIDIOC_ENUM_FRAMESIZES) {
		struct v4l2_frmsizeenum *f = arg;
		if (!is_format(f->pixel_format) || f->index)
			return fail(EINVAL);
		f->type = V4L2_FRMSIZE_TYPE_DISCRETE;
		f->discrete.width = width;
		f->discrete.height = height;
		memset(f->reserved, 0, sizeof f->reserved);
		return 0;
	}
	struct v4l2_frmivalenum *f = arg;
	if (!is_format(f->pixel_format) || f->width != width || f->height != height || f->index)
		return fail(EINVAL);
	f->type = V4L2_FRMIVAL_TYPE_DISCRETE;
	fraction(&f->discrete);
	memset(f->reserved, 0, sizeof f->reserved);
	return 0;
}

static int format(unsigned req, struct v4l2_format *f)
{
	if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return fail(EINVAL);
	if (req == (unsigned)VIDIOC_S_FMT) {
		if (q.n)
			return fail(EBUSY);
		set_format(f->fmt.pix.pixelformat);
	}
	if (req == (unsigned)VIDIOC_TRY_FMT)
		describe(&f->fmt.pix);
	else
		f->fmt.pix = pix;
	return 0;
}

static int stream(struct handle *h, unsigned req, const uint32_t *type)
{
	if (*type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return fail(EINVAL);
	if (q.n && q.owner != h)
		return fail(EBUSY);
	if (req == (unsigned)VIDIOC_STREAMOFF) {
		if (q.n)
			stream_off();
		return 0;
	}
	if (!q.n)
		return fail(EINVAL);
	if (!q.streaming) {
		q.streaming = true;
		q.seq = 0;
		start_thread();
		pthread_cond_signal(&begun);
	}
	return 0;
}

static int buffer(struct handle *h, int fd, unsigned req, struct v4l2_buffer *b)
{
	if (b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return fail(EINVAL);
	if (req != (unsigned)VIDIOC_QUERYBUF && b->memory != V4L2_MEMORY_MMAP)
		return fail(EINVAL);
	if (req != (unsigned)VIDIOC_QUERYBUF && q.n && q.owner != h)
		return fail(EBUSY);
	if (req == (unsigned)VIDIOC_DQBUF)
		return dequeue(h, fd, b);
	if (b->index >= q.n)
		return fail(EINVAL);
	if (req == (unsigned)VIDIOC_QBUF) {
		if (q.b[b->index].state != DEQUEUED)
			return fail(EINVAL);
		q.b[b->index].state = QUEUED;
		q.in.at[q.in.n++] = b->index;
	}
	buffer_info(b, b->index);
	return 0;
}

static int camera_ioctl(struct handle *h, int fd, unsigned req, void *arg)
{
	if (!arg)
		return fail(EFAULT);
	switch (req) {
	case (unsigned)VIDIOC_QUERYCAP: {
		struct v4l2_capability *c = arg;
		memset(c, 0, sizeof *c);
		strcpy((char *)c->driver, "preload");
		strcpy((char *)c->card, "Preloaded camera");
		strcpy((char *)c->bus_info, "platform:preload-000");
		c->version = 6 << 16 | 1 << 8;
		c->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_EXT_PIX_FORMAT;
		c->capabilities = c->device_caps | V4L2_CAP_DEVICE_CAPS;
		return 0;
	}
	case (unsigned)VIDIOC_ENUM_FMT:
	case (unsigned)VIDIOC_ENUM_FRAMESIZES:
	case (unsigned)VIDIOC_ENUM_FRAMEINTERVALS:
		return enumerate(req, arg);
	case (unsigned)VIDIOC_G_FMT:
	case (unsigned)VIDIOC_S_FMT:
	case (unsigned)VIDIOC_TRY_FMT:
		return format(req, arg);
	case (unsigned)VIDIOC_G_PARM:
	case (unsigned)VIDIOC_S_PARM: {
		struct v4l2_streamparm *p = arg;
		if (p->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
			return fail(EINVAL);
		memset(&p->parm, 0, sizeof p->parm);
		p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
		fraction(&p->parm.capture.timeperframe);
		return 0;
	}
	case (unsigned)VIDIOC_ENUMINPUT: {
		struct v4l2_input *i = arg;
		if (i->index)
			return fail(EINVAL);
		memset(i, 0, sizeof *i);
		strcpy((char *)i->name, "Camera 1");
		i->type = V4L2_INPUT_TYPE_CAMERA;
		return 0;
	}
	case (unsigned)VIDIOC_G_INPUT:
		*(int *)arg = 0;
		return 0;
	case (unsigned)VIDIOC_S_INPUT:
		return *(int *)arg ? fail(EINVAL) : 0;
	case (unsigned)VIDIOC_REQBUFS: {
		struct v4l2_requestbuffers *r = arg;
		r->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
		r->flags = 0;
		if (r->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || r->memory != V4L2_MEMORY_MMAP)
			return fail(EINVAL);
		if ((q.n && q.owner != h) || q.streaming)
			return fail(EBUSY);
		free_buffers();
		int n = r->count ? make_buffers(h, r->count) : 0;
		if (n < 0)
			return fail(ENOMEM);
		r->count = n;
		return 0;
	}
	case (unsigned)VIDIOC_QUERYBUF:
	case (unsigned)VIDIOC_QBUF:
	case (unsigned)VIDIOC_DQBUF:
		return buffer(h, fd, req, arg);
	case (unsigned)VIDIOC_STREAMON:
	case (unsigned)VIDIOC_STREAMOFF:
		return stream(h, req, arg);
	}
	return fail(ENOTTY);
}

// ---- what is intercepted ----

static int camera_open(int flags)
{
	static const char junk[1024];
	int pair[2] = { -1, -1 }, err = 0, i = 0, least = 1;
	pthread_mutex_lock(&lock);
	load();
	while (i < HANDLES && handles[i].fd)
		i++;
	if (i == HANDLES)
		err = EMFILE;
	else if (socketpair(AF_UNIX, SOCK_STREAM | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0) |
			    (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0), 0, pair))
		err = errno;
	else {
		int high = fcntl(pair[1], F_DUPFD_CLOEXEC, 200); // out of the way of the program's numbers
		if (high >= 0) {
			real.close(pair[1]);
			pair[1] = high;
		}
		// Never read: it keeps the program's end from being writable, as a capture device is not.
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
		while (send(pair[0], junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
			;
		handles[i].peer = pair[1];
		atomic_store_explicit(&handles[i].fd, pair[0] + 1, memory_order_release);
	}
	pthread_mutex_unlock(&lock);
	return err ? fail(err) : pair[0];
}

static int camera_close(struct handle *h, int fd)
{
	pthread_mutex_lock(&lock);
	if (q.owner == h) {
		stream_off();
		free_buffers();
	}
	atomic_store(&h->fd, 0);
	real.close(h->peer);
	pthread_mutex_unlock(&lock);
	return real.close(fd);
}

static void *camera_mmap(struct handle *h, void *a, size_t n, int prot, int flags, off_t off)
{
	void *p = MAP_FAILED;
	pthread_mutex_lock(&lock);
	uint32_t i = q.stride ? off / q.stride : 0;
	if (q.owner != h || i >= q.n || off % q.stride || n > q.stride || !(flags & MAP_SHARED))
		errno = EINVAL;
	else if ((p = real.mmap(a, n, prot, flags, q.memfd, off)) != MAP_FAILED)
		q.b[i].mapped = true;
	pthread_mutex_unlock(&lock);
	return p;
}

__attribute__((constructor)) static void init(void)
{
	resolve();
	if (getenv("CAMERA_DEVICE"))
		device = strdup(getenv("CAMERA_DEVICE"));
}

#define MODE(flags, mode) \
	if ((flags) & (O_CREAT | O_TMPFILE)) { \
		va_list ap; \
		va_start(ap, flags); \
		mode = va_arg(ap, int); \
		va_end(ap); \
	}
#define OPEN(name) \
	EXPORT int name(const char *path, int flags, ...) \
	{ \
		int mode = 0; \
		resolve(); \
		if (is_device(path)) return camera_open(flags); \
		MODE(flags, mode) \
		return real.open(path, flags, mode); \
	}
#define OPENAT(name) \
	EXPORT int name(int dir, const char *path, int flags, ...) \
	{ \
		static int (*next)(int, const char *, int, ...); \
		int mode = 0; \
		resolve(); \
		if (is_device(path)) return camera_open(flags); \
		MODE(flags, mode) \
		if (!next) next = dlsym(RTLD_NEXT, #name); \
		return next(dir, path, flags, mode); \
	}
OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)
OPENAT(openat)
OPENAT(openat64)

EXPORT int close(int fd)
{
	resolve();
	struct handle *h = find(fd);
	return h ? camera_close(h, fd) : real.close(fd);
}

static int locked_ioctl(struct handle *h, int fd, unsigned req, void *arg)
{
	pthread_mutex_lock(&lock);
	int r = camera_ioctl(h, fd, req, arg);
	pthread_mutex_unlock(&lock);
	return r;
}

EXPORT int ioctl(int fd, unsigned long req, ...)
{
	va_list ap;
	va_start(ap, req);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	resolve();
	struct handle *h = _IOC_TYPE(req) == 'V' ? find(fd) : NULL;
	return h ? locked_ioctl(h, fd, req, arg) : real.ioctl(fd, req, arg);
}

EXPORT void *mmap(void *a, size_t n, int prot, int flags, int fd, off_t off)
{
	resolve();
	struct handle *h = find(fd);
	return h ? camera_mmap(h, a, n, prot, flags, off) : real.mmap(a, n, prot, flags, fd, off);
}

EXPORT void *mmap64(void *a, size_t n, int prot, int flags, int fd, off_t off)
{
	return mmap(a, n, prot, flags, fd, off);
}

// libv4l and the crate v4l go through syscall().
EXPORT long syscall(long nr, ...)
{
	va_list ap;
	long a[6];
	struct handle *h;
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	resolve();
	switch (nr) {
	case SYS_ioctl:
		if (_IOC_TYPE(a[1]) == 'V' && (h = find((int)a[0])))
			return locked_ioctl(h, (int)a[0], (unsigned)a[1], (void *)a[2]);
		break;
	case SYS_openat:
		if (is_device((const char *)a[1]))
			return camera_open((int)a[2]);
		break;
#ifdef SYS_open
	case SYS_open:
		if (is_device((const char *)a[0]))
			return camera_open((int)a[1]);
		break;
#endif
	case SYS_close:
		if ((h = find((int)a[0])))
			return camera_close(h, (int)a[0]);
		break;
#ifdef SYS_mmap
	case SYS_mmap:
		if ((h = find((int)a[4])))
			return (long)camera_mmap(h, (void *)a[0], a[1], (int)a[2], (int)a[3], a[5]);
		break;
#endif
	}
	return real.syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void set_mode(struct stat *st)
{
	st->st_mode = S_IFCHR | 0660;
	st->st_rdev = makedev(81, 0);
	st->st_size = 0;
}

static int device_stat(struct stat *st)
{
	if (!maybe_null(st))
		return fail(EFAULT);
	memset(st, 0, sizeof *st);
	st->st_nlink = 1;
	set_mode(st);
	return 0;
}

#define STAT(name) \
	EXPORT int name(const char *path, struct stat *st) \
	{ \
		static int (*next)(const char *, struct stat *); \
		if (is_device(path)) return device_stat(st); \
		if (!next) next = dlsym(RTLD_NEXT, #name); \
		return next(path, st); \
	}
STAT(stat)
STAT(lstat)

EXPORT int fstat(int fd, struct stat *st)
{
	static int (*next)(int, struct stat *);
	if (!next) next = dlsym(RTLD_NEXT, "fstat");
	int r = next(fd, st);
	if (!r && find(fd))
		set_mode(st);
	return r;
}

EXPORT int fstatat(int dir, const char *path, struct stat *st, int flags)
{
	static int (*next)(int, const char *, struct stat *, int);
	if (is_device(path)) return device_stat(st);
	if (!next) next = dlsym(RTLD_NEXT, "fstatat");
	int r = next(dir, path, st, flags);
	if (!r && is_empty(path) && find(dir))
		set_mode(st);
	return r;
}

// The structure is the same on 64-bit machines.
#pragma GCC diagnostic ignored "-Wmissing-attributes"
#define ALIAS(name, ...) \
	extern int name##_64(__VA_ARGS__) __asm__(#name "64") \
		__attribute__((alias(#name), visibility("default")));
ALIAS(stat, const char *, struct stat *)
ALIAS(lstat, const char *, struct stat *)
ALIAS(fstat, int, struct stat *)
ALIAS(fstatat, int, const char *, struct stat *, int)

EXPORT int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
	static int (*next)(int, const char *, int, unsigned, struct statx *);
	if (!maybe_null(path) || !maybe_null(st))
		return fail(EFAULT);
	if (!next) next = dlsym(RTLD_NEXT, "statx");
	if (!is_device(path) && !(is_empty(path) && find(dir)))
		return next(dir, path, flags, mask, st);
	memset(st, 0, sizeof *st);
	st->stx_mask = STATX_BASIC_STATS;
	st->stx_nlink = 1;
	st->stx_mode = S_IFCHR | 0660;
	st->stx_rdev_major = 81;
	return 0;
}

EXPORT int access(const char *path, int mode)
{
	static int (*next)(const char *, int);
	if (is_device(path)) return mode & X_OK ? fail(EACCES) : 0;
	if (!next) next = dlsym(RTLD_NEXT, "access");
	return next(path, mode);
}

EXPORT int faccessat(int dir, const char *path, int mode, int flags)
{
	static int (*next)(int, const char *, int, int);
	if (is_device(path)) return access(path, mode);
	if (!next) next = dlsym(RTLD_NEXT, "faccessat");
	return next(dir, path, mode, flags);
}

EXPORT char *realpath(const char *path, char *out)
{
	static char *(*next)(const char *, char *);
	if (is_device(path)) return maybe_null(out) ? strcpy(out, path) : strdup(path);
	if (!next) next = dlsym(RTLD_NEXT, "realpath");
	return next(path, out);
}
