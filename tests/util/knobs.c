// Controls for the preloaded camera of ../bench/camera.c, so that a browser and the program under test
// can be on the same machine without a device: one control of each kind, one with a name that tries to
// break out of a page. What kernel drivers do is shown by the guest's (../guest).
//
//   LD_PRELOAD=knobs.so:camera.so CAMERA_FORMATS=YUYV … pistream --camera /dev/video0
//
//   KNOBS_SLOW   milliseconds that each change takes (0)
//   KNOBS_LOG    file to which each change is added: a line with id and value
//
// Only what V4L2 has for controls is answered here; all else goes on to the camera.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

struct knob {
	__u32 id, type;
	const char *name;
	__s64 min, max, step, def;
	__u32 flags;
	__s64 value;
	char text[33];
};

static const char *const HERTZ[] = { "Disabled", "50 Hz", "60 Hz" };
static const char *const EXPOSURE[] = { NULL, "Manual Mode", NULL, "Aperture Priority Mode" };

// In the order of their ids, as a driver lists them.
static struct knob knobs[] = {
	{ V4L2_CID_USER_CLASS, V4L2_CTRL_TYPE_CTRL_CLASS, "User Controls", .flags = 6 },
	{ V4L2_CID_BRIGHTNESS, V4L2_CTRL_TYPE_INTEGER, "Brightness", -64, 64, 1, 0 },
	{ V4L2_CID_CONTRAST, V4L2_CTRL_TYPE_INTEGER, "Contrast", 0, 100, 5, 50, .value = 50 },
	{ V4L2_CID_DO_WHITE_BALANCE, V4L2_CTRL_TYPE_BUTTON, "White Balance, Once" },
	{ V4L2_CID_HFLIP, V4L2_CTRL_TYPE_BOOLEAN, "Horizontal Flip", 0, 1, 1, 0 },
	{ V4L2_CID_POWER_LINE_FREQUENCY, V4L2_CTRL_TYPE_MENU, "Power Line Frequency", 0, 2, 1, 1, .value = 1 },
	{ V4L2_CID_USER_BASE + 0x1000, V4L2_CTRL_TYPE_STRING, "Caption", 0, 32, 1, 0 },
	{ V4L2_CID_USER_BASE + 0x1001, V4L2_CTRL_TYPE_BITMASK, "Lamps", 0, 0x80000005, 0, 1, .value = 1 },
	{ V4L2_CID_USER_BASE + 0x1002, V4L2_CTRL_TYPE_INTEGER, "Temperature", -40, 120, 1, 0,
	  .flags = V4L2_CTRL_FLAG_READ_ONLY | V4L2_CTRL_FLAG_VOLATILE, .value = 41 },
	{ V4L2_CID_USER_BASE + 0x1003, V4L2_CTRL_TYPE_INTEGER, "\"><evil onload=evil()>${7}", 0, 9, 1, 0 },
	{ V4L2_CID_USER_BASE + 0x1004, V4L2_CTRL_TYPE_AREA, "Unit Cell Size" },
	{ V4L2_CID_CAMERA_CLASS, V4L2_CTRL_TYPE_CTRL_CLASS, "Camera Controls", .flags = 6 },
	{ V4L2_CID_EXPOSURE_AUTO, V4L2_CTRL_TYPE_MENU, "Auto Exposure", 0, 3, 1, 3, .value = 3 },
	{ V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CTRL_TYPE_INTEGER, "Exposure Time, Absolute", 3, 2047, 1, 250,
	  .value = 250 },
};

static struct knob *find(__u32 id)
{
	__u32 plain = id & 0x0fffffff;
	int next = id != plain;
	for (size_t i = 0; i < LENGTH(knobs); i++)
		if (next ? knobs[i].id > plain : knobs[i].id == plain)
			return &knobs[i];
	return NULL;
}

static __u32 flags(const struct knob *k)
{
	int automatic = find(V4L2_CID_EXPOSURE_AUTO)->value == 3;
	return k->flags | (k->id == V4L2_CID_EXPOSURE_ABSOLUTE && automatic ? V4L2_CTRL_FLAG_INACTIVE : 0);
}

static int query(struct v4l2_query_ext_ctrl *q)
{
	struct knob *k = find(q->id);
	if (!k)
		return EINVAL;
	memset(q, 0, sizeof *q);
	q->id = k->id;
	q->type = k->type;
	strncpy(q->name, k->name, sizeof q->name - 1);
	q->minimum = k->min;
	q->maximum = k->max;
	q->step = k->step;
	q->default_value = k->def;
	q->flags = flags(k);
	q->elems = 1;
	return 0;
}

static int menu(struct v4l2_querymenu *m)
{
	const char *const *names = m->id == V4L2_CID_EXPOSURE_AUTO ? EXPOSURE : HERTZ;
	struct knob *k = find(m->id);
	if (!k || k->type != V4L2_CTRL_TYPE_MENU || m->index > k->max || !names[m->index])
		return EINVAL;
	strcpy((char *)m->name, names[m->index]);
	return 0;
}

static int get(struct v4l2_ext_control *c, int def)
{
	struct knob *k = find(c->id);
	if (!k)
		return EINVAL;
	if (k->type == V4L2_CTRL_TYPE_STRING) {
		if (c->size < sizeof k->text)
			return ENOSPC;
		strcpy(c->string, def ? "" : k->text);
		return 0;
	}
	c->value = def ? k->def : k->value;
	return 0;
}

static int set(struct v4l2_ext_control *c)
{
	const char *slow = getenv("KNOBS_SLOW"), *log = getenv("KNOBS_LOG");
	struct knob *k = find(c->id);
	if (!k || flags(k) & V4L2_CTRL_FLAG_READ_ONLY)
		return k ? EACCES : EINVAL;
	if (slow)
		usleep(atoi(slow) * 1000);
	if (k->type == V4L2_CTRL_TYPE_STRING)
		snprintf(k->text, sizeof k->text, "%.*s", (int)c->size, c->string);
	else if (k->type == V4L2_CTRL_TYPE_BITMASK)
		k->value = (__u32)c->value;
	else
		k->value = k->step > 1 ? (c->value + k->step / 2) / k->step * k->step : c->value;
	FILE *f = log ? fopen(log, "a") : NULL;
	if (f) {
		fprintf(f, "%u %d\n", c->id, c->value);
		fclose(f);
	}
	return 0;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	static int (*next)(int, unsigned long, ...);
	va_list list;
	va_start(list, request);
	void *arg = va_arg(list, void *);
	va_end(list);
	struct v4l2_ext_controls *all = arg;
	int error;
	switch ((unsigned)request) {
	case (unsigned)VIDIOC_QUERY_EXT_CTRL: error = query(arg); break;
	case (unsigned)VIDIOC_QUERYMENU: error = menu(arg); break;
	case (unsigned)VIDIOC_G_EXT_CTRLS: error = get(all->controls, all->which == V4L2_CTRL_WHICH_DEF_VAL); break;
	case (unsigned)VIDIOC_S_EXT_CTRLS: error = set(all->controls); break;
	default:
		if (!next)
			next = dlsym(RTLD_NEXT, "ioctl");
		return next(fd, request, arg);
	}
	errno = error;
	return error ? -1 : 0;
}
