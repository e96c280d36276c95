/* SPDX-License-Identifier: Apache-2.0
 * Plugin of QEMU's user emulation (plugin API version 1): counts the instructions and system calls of each thread, and those
 * within some functions of one library, with all that they call.
 * It must never change what the program does.
 *
 * Arguments: to=FILE, library=ENDING OF ITS PATH, and any number of LABEL=ADDRESS (hexadecimal, as the symbol table has it).
 * At the end it writes lines: "thread INSTRUCTIONS SYSTEM-CALLS NAME", "function LABEL INSTRUCTIONS SYSTEM-CALLS
 * ENTRIES RETURNS". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is called of QEMU: Debian ships no header of it. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated_fn)(plugin_id, struct qemu_plugin_tb *);
typedef void (*executed_fn)(unsigned, void *);
typedef void (*system_called_fn)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
				 uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated_fn);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_fn, int flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, system_called_fn);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

#define FUNCTIONS 16
#define THREAD_NAME_BYTES 16
#define PAGE_BYTES 4096

struct count {
	uint64_t instructions, calls, entries, left;
};

/* Instructions that run in a row. */
struct block {
	uint64_t begin, end, instructions;
	/* Of the function that begins here, from 1; 0 = none does. */
	unsigned function;
};

struct thread {
	struct thread *next;
	long id;
	char name[THREAD_NAME_BYTES];
	struct count all, within[FUNCTIONS];
	/* The function that it is in, and where it goes on after it; 0 = in none. */
	unsigned function;
	uint64_t back, last_end;
};

static char to[4096], library[256];
static struct {
	char label[64];
	uint64_t address;
} functions[FUNCTIONS];
static unsigned function_count;
/* Where the library is loaded; 0 = not yet. */
static uint64_t base;
static struct thread *threads;
static __thread struct thread *own __attribute__((tls_model("initial-exec")));

static struct thread *this_thread(void)
{
	if (own)
		return own;
	own = calloc(1, sizeof(*own));
	if (!own)
		abort();
	own->id = syscall(SYS_gettid);
	own->next = __atomic_load_n(&threads, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&threads, &own->next, own, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	return own;
}

static void find_base(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096 + 256];

	while (maps && !base && fgets(line, sizeof(line), maps)) {
		size_t length = strcspn(line, "\n"), wanted = strlen(library);

		if (length >= wanted && !memcmp(line + length - wanted, library, wanted))
			base = strtoull(line, 0, 16);
	}
	if (maps)
		fclose(maps);
}

static unsigned function_at(uint64_t address)
{
	for (unsigned i = 0; i < function_count; i++) {
		/* Only where one of them may begin is the list of mappings worth reading. */
		if ((address - functions[i].address) % PAGE_BYTES)
			continue;
		if (!base)
			find_base();
		if (base && address == base + functions[i].address)
			return i + 1;
	}
	return 0;
}

static void executed(unsigned cpu, void *data)
{
	const struct block *block = data;
	struct thread *thread = this_thread();

	(void)cpu;
	thread->all.instructions += block->instructions;
	if (thread->function && block->begin == thread->back) {
		thread->within[thread->function - 1].left++;
		thread->function = 0;
	}
	if (!thread->function && block->function) {
		thread->function = block->function;
		/* It was called by the last instruction before. */
		thread->back = thread->last_end;
		thread->within[thread->function - 1].entries++;
	}
	if (thread->function)
		thread->within[thread->function - 1].instructions += block->instructions;
	thread->last_end = block->end;
}

static void translated(plugin_id id, struct qemu_plugin_tb *code)
{
	struct block *block = calloc(1, sizeof(*block));
	const struct qemu_plugin_insn *last;

	(void)id;
	if (!block)
		abort();
	block->instructions = qemu_plugin_tb_n_insns(code);
	last = qemu_plugin_tb_get_insn(code, block->instructions - 1);
	block->begin = qemu_plugin_tb_vaddr(code);
	block->end = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
	block->function = function_at(block->begin);
	qemu_plugin_register_vcpu_tb_exec_cb(code, executed, 0, block);
}

static void system_called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
			  uint64_t f, uint64_t g, uint64_t h)
{
	struct thread *thread = this_thread();

	(void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
	thread->all.calls++;
	if (thread->function)
		thread->within[thread->function - 1].calls++;
	if (number == SYS_exit)
		prctl(PR_GET_NAME, thread->name);
}

static void name_of(struct thread *thread)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/comm", thread->id);
	file = thread->name[0] ? 0 : fopen(path, "r");
	if (!file)
		return;
	if (fgets(thread->name, sizeof(thread->name), file))
		thread->name[strcspn(thread->name, "\n")] = 0;
	fclose(file);
}

static void ended(plugin_id id, void *nothing)
{
	struct count within[FUNCTIONS] = { 0 };
	FILE *file = fopen(to, "w");

	(void)id, (void)nothing;
	if (!file)
		return;
	for (struct thread *one = __atomic_load_n(&threads, __ATOMIC_ACQUIRE); one; one = one->next) {
		name_of(one);
		fprintf(file, "thread %llu %llu %s\n", (unsigned long long)one->all.instructions,
			(unsigned long long)one->all.calls, one->name);
		for (unsigned i = 0; i < function_count; i++) {
			within[i].instructions += one->within[i].instructions;
			within[i].calls += one->within[i].calls;
			within[i].entries += one->within[i].entries;
			within[i].left += one->within[i].left;
		}
	}
	for (unsigned i = 0; i < function_count; i++)
		fprintf(file, "function %s %llu %llu %llu %llu\n", functions[i].label,
			(unsigned long long)within[i].instructions, (unsigned long long)within[i].calls,
			(unsigned long long)within[i].entries, (unsigned long long)within[i].left);
	fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments)
{
	(void)info;
	for (int i = 0; i < count; i++) {
		char *value = strchr(arguments[i], '=');

		if (!value)
			return 1;
		*value++ = 0;
		if (!strcmp(arguments[i], "to")) {
			snprintf(to, sizeof(to), "%s", value);
		} else if (!strcmp(arguments[i], "library")) {
			snprintf(library, sizeof(library), "%s", value);
		} else if (function_count < FUNCTIONS) {
			snprintf(functions[function_count].label, sizeof(functions[0].label), "%s", arguments[i]);
			functions[function_count++].address = strtoull(value, 0, 16);
		} else {
			return 1;
		}
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_vcpu_syscall_cb(id, system_called);
	qemu_plugin_register_atexit_cb(id, ended, 0);
	return 0;
}
