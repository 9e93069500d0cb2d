// The stamp in every frame of the bench: camera.c and limit.c write it, viewers.c reads it.
//
// JPEG: a COM segment right after SOI, in ASCII, so that no byte of it is 0xFF:
//   FF FE <length> "BENCH <sequence, 10 digits> <CLOCK_MONOTONIC in ns, 20 digits>"
// Raw pictures: 2 rows of 32 blocks of 16x16 pixels at the top left, black is 0 and white is 1, most
// significant bit first; they survive a JPEG encoder. 64 bits: 40 of microseconds, 16 of sequence,
// 8 of checksum.
#ifndef STAMP_H
#define STAMP_H
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STAMP_WORD "BENCH "
#define STAMP_WORD_N (sizeof STAMP_WORD - 1)
#define STAMP_TEXT (STAMP_WORD_N + 10 + 1 + 20) // bytes of the text
#define STAMP_COM (4 + STAMP_TEXT)              // bytes of the whole segment

static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// SOI and COM: 2 + STAMP_COM bytes, to be followed by the JPEG without its own SOI.
static inline int stamp_write(uint8_t *p, uint32_t seq, uint64_t ns)
{
	char text[STAMP_TEXT + 1];
	snprintf(text, sizeof text, STAMP_WORD "%010" PRIu32 " %020" PRIu64, seq, ns);
	memcpy(p, "\xff\xd8\xff\xfe\0", 5);
	p[5] = STAMP_TEXT + 2;
	memcpy(p + 6, text, STAMP_TEXT);
	return 2 + STAMP_COM;
}

// Looks for the stamp in the first n bytes of a JPEG.
static inline int stamp_read(const uint8_t *p, size_t n, uint32_t *seq, uint64_t *ns)
{
	const char *t = memmem(p, n, STAMP_WORD, STAMP_WORD_N);
	char text[STAMP_TEXT + 1];
	if (!t || (const uint8_t *)t + STAMP_TEXT > p + n)
		return 0;
	memcpy(text, t, STAMP_TEXT);
	text[STAMP_TEXT] = 0;
	*seq = strtoul(text + STAMP_WORD_N, NULL, 10);
	*ns = strtoull(text + STAMP_WORD_N + 11, NULL, 10);
	return 1;
}

static inline uint64_t stamp_bits(uint32_t seq, uint64_t ns)
{
	uint64_t v = (ns / 1000 & 0xffffffffffull) << 24 | (uint64_t)(seq & 0xffff) << 8, sum = 0x5a;
	for (int i = 1; i < 8; i++)
		sum = sum * 31 + (v >> (8 * i) & 0xff);
	return v | (sum & 0xff);
}
#endif
