// A plugin for QEMU that counts the instructions of an emulated Pi by whose they are.
//
//   -plugin count.so,mark=ADDRESS,out=FILE
//
// Each time that the instruction at `mark` is executed (a function of probe.rs), it writes what was
// executed since the last time, and begins anew:
//
//   sum pistream=N helpers=N tools=N kernel=N
//   block ADDRESS INSTRUCTIONS EXECUTIONS       of pistream's, for a profile
//   end
//
// An address tells whose it is: pistream is linked to 0x10000, the tools to 0x30000000, and the kernel
// with its modules is above 0xbf000000, but for its helpers (atomics, the thread's pointer), which run
// in user space. busybox is where pistream is; it does nothing while probe measures.
//
// QEMU's header is in no package; what is used of it is declared here. COUNT_VERSION is the plugin
// interface's version, which has changed since, but not in these functions.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t Id;
struct qemu_plugin_tb;
typedef void OnTranslation(Id, struct qemu_plugin_tb *);
typedef void OnExecution(unsigned cpu, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(Id, OnTranslation *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, OnExecution *, int flags, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

int qemu_plugin_version = COUNT_VERSION;

// Straight code that QEMU translates at once. Kept for good: it may be translated again.
struct block {
	uint64_t address, instructions, executions;
	struct block *next;
};

enum { BUCKETS = 1 << 16 };
static struct block *buckets[BUCKETS];
static uint64_t mark;
static FILE *out;

static void tell(void)
{
	uint64_t pistream = 0, helpers = 0, tools = 0, kernel = 0;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct block *b = buckets[i]; b; b = b->next) {
			uint64_t n = b->instructions * b->executions;
			if (b->address >= 0xffff0f00 && b->address < 0xffff1000)
				helpers += n;
			else if (b->address >= 0xbf000000)
				kernel += n;
			else if (b->address >= 0x30000000)
				tools += n;
			else
				pistream += n;
		}
	fprintf(out, "sum pistream=%" PRIu64 " helpers=%" PRIu64 " tools=%" PRIu64 " kernel=%" PRIu64 "\n",
		pistream, helpers, tools, kernel);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct block *b = buckets[i]; b; b = b->next) {
			if (b->executions && b->address < 0x30000000)
				fprintf(out, "block %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address,
					b->instructions, b->executions);
			b->executions = 0;
		}
	fprintf(out, "end\n");
	fflush(out);
}

static void executed(unsigned cpu, void *data)
{
	(void)cpu;
	struct block *block = data;
	if (block->address == mark)
		tell();
	block->executions++;
}

static void translated(Id id, struct qemu_plugin_tb *tb)
{
	(void)id;
	uint64_t address = qemu_plugin_tb_vaddr(tb), instructions = qemu_plugin_tb_n_insns(tb);
	struct block **at = &buckets[(address >> 2) % BUCKETS];
	while (*at && ((*at)->address != address || (*at)->instructions != instructions))
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof **at);
		if (!*at)
			abort();
		(*at)->address = address;
		(*at)->instructions = instructions;
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, *at);
}

int qemu_plugin_install(Id id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "mark=", 5))
			mark = strtoull(argv[i] + 5, NULL, 16);
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!mark || !out) {
		fprintf(stderr, "count.c: give it mark= and out=\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
