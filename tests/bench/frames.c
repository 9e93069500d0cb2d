// Makes JPEG frames as a webcam would: gradients, shapes that move from frame to frame, detail like
// text, and sensor noise, 4:2:2. The noise is fixed; the quality is searched so that a frame has about
// BYTES.
//   frames FOLDER WIDTH HEIGHT COUNT BYTES     e.g. frames target/bench/720p 1280 720 30 80000
// Does nothing if FOLDER already has COUNT frames.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jpeglib.h>

static unsigned seed = 12345;
static int chance(void) { return (seed = seed * 1664525 + 1013904223) >> 16; }
static int clamp(double v) { return v < 0 ? 0 : v > 255 ? 255 : (int)v; }

static void draw(unsigned char *rgb, int w, int h, int frame, int count)
{
	double t = 6.28318530718 * frame / count;
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++) {
			double u = (double)x / w, v = (double)y / h;
			double l = 70 + 90 * u + 50 * (1 - v) + 8 * sin(30 * u + 4 * v) * sin(22 * v + t);
			double r = l * 1.05, g = l, b = l * (0.8 + 0.3 * v);
			// A person who sways.
			double ex = (u - 0.5 - 0.06 * sin(t)) / 0.13, ey = (v - 0.55) / 0.33;
			if (ex * ex + ey * ey < 1) {
				double s = 1 - 0.5 * (ex * ex + ey * ey);
				r = 190 * s + 10 * sin(60 * u);
				g = 130 * s;
				b = 105 * s;
			}
			// A window with bars.
			if (u > 0.72 && u < 0.93 && v > 0.1 && v < 0.5) {
				int bar = fabs(fmod(u - 0.72, 0.07) - 0.035) > 0.031 || fabs(v - 0.3) < 0.006;
				r = bar ? 60 : 220;
				g = bar ? 50 : 232;
				b = bar ? 45 : 250;
			}
			// A shelf with books.
			if (u > 0.06 && u < 0.3 && v > 0.2 && v < 0.75) {
				int k = (int)((u - 0.06) * 120) * 7 + (int)((v - 0.2) / 0.14) * 31;
				int text = (x / 2 ^ y / 2 ^ k) % 11 == 0;
				r = 60 + k * 37 % 140 - 40 * text;
				g = 50 + k * 61 % 130 - 40 * text;
				b = 50 + k * 17 % 120 - 40 * text;
			}
			unsigned char *p = rgb + 3 * ((size_t)y * w + x);
			int n = (chance() & 7) + (chance() & 7) - 7;
			p[0] = clamp(r + n);
			p[1] = clamp(g + n);
			p[2] = clamp(b + n + (chance() & 3));
		}
}

static size_t encode(const unsigned char *rgb, int w, int h, int quality, unsigned char **out)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr e;
	unsigned long n = 0;
	free(*out);
	*out = NULL;
	c.err = jpeg_std_error(&e);
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, out, &n);
	c.image_width = w;
	c.image_height = h;
	c.input_components = 3;
	c.in_color_space = JCS_RGB;
	jpeg_set_defaults(&c);
	c.comp_info[0].h_samp_factor = 2;
	c.comp_info[0].v_samp_factor = 1;
	jpeg_set_quality(&c, quality, TRUE);
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < c.image_height) {
		JSAMPROW row = (JSAMPROW)rgb + (size_t)c.next_scanline * w * 3;
		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
	return n;
}

int main(int argc, char **argv)
{
	char path[4096];
	unsigned char *jpg = NULL;
	size_t total = 0, least = -1, most = 0;
	if (argc != 6) {
		fprintf(stderr, "usage: frames FOLDER WIDTH HEIGHT COUNT BYTES\n");
		return 2;
	}
	int w = atoi(argv[2]), h = atoi(argv[3]), count = atoi(argv[4]), quality = 0;
	size_t want = atol(argv[5]);
	if (mkdir(argv[1], 0777) && errno != EEXIST)
		return perror(argv[1]), 1;
	snprintf(path, sizeof path, "%s/%03d.jpg", argv[1], count - 1);
	if (!access(path, R_OK))
		return 0;
	unsigned char *rgb = malloc((size_t)w * h * 3);
	for (int i = 0; i < count; i++) {
		draw(rgb, w, h, i, count);
		if (!quality)
			for (quality = 20; quality < 96 && encode(rgb, w, h, quality, &jpg) < want; quality++)
				;
		size_t n = encode(rgb, w, h, quality, &jpg);
		snprintf(path, sizeof path, "%s/%03d.jpg", argv[1], i);
		FILE *f = fopen(path, "wb");
		if (!f || fwrite(jpg, 1, n, f) != n || fclose(f))
			return perror(path), 1;
		total += n;
		least = n < least ? n : least;
		most = n > most ? n : most;
	}
	printf("%s: %d frames, quality %d, %zu to %zu bytes, mean %zu\n", argv[1], count, quality, least,
	       most, total / count);
	return 0;
}
