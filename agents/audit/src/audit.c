/* SPDX-License-Identifier: Apache-2.0
 * Reports every object that the dynamic linker opens to a FIFO (rtld-audit(7)).
 * It must never block, end or change the program, nor call into any library, but for the functions of the C library that it
 * stands before (exec.h): it has only system calls. What it takes out of a program's environment is Plimsoll's own
 * (node_options.h, java_options.h, words.h).
 *
 * A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
 *     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
 * pid: of the process that the report is about; 0 if it is not known.
 * kind: LH = this program has started (name: its arguments, for interpreters only), LO = an object, LE = the application
 * started a program (path) without some of Plimsoll's variables (name: which, NUL, the application's program), or, with no
 * path and no variables, what it starts cannot be watched; NF = Node.js goes without its hook (name: why).
 * lost: reports that failed since the last one that did not, and that could not be written to the file of losses. */

#include "system_calls.h"

#define REPORT_MAX_BYTES 4096
/* Room for the head: the kind, five numbers, and what is between them. */
#define HEAD_MAX_BYTES 128
#define ARGUMENTS_MAX_BYTES 512
/* Most of the name of a program that is started, in bytes. */
#define STARTED_MAX_BYTES 512
#define FIFO_NAME "/reports"
/* A place for a path that is set when the library is written; lib.rs has the same number. */
#define SLOT_BYTES 512
/* Below this limit of file sizes a write to a file could end the program by SIGXFSZ. */
#define FILE_SIZE_MIN_BYTES (1ul << 20)
#define RLIMIT_FSIZE 1
#define LM_ID_BASE 0

/* Set when the library is written: read as volatile, so that the compiler does not take these for the values. */
__attribute__((used)) static const volatile char report_slot[SLOT_BYTES] = "\036plimsoll: FIFO of reports\036";
__attribute__((used)) static const volatile char loss_slot[SLOT_BYTES] = "\036plimsoll: file of losses\036";

/* The linker calls one function of an auditor at a time, under its lock: these need no other. They are not on the
 * stack because a thread that calls dlopen may have little. */
static char record[REPORT_MAX_BYTES];
static char scratch[REPORT_MAX_BYTES];
/* Reports that failed and were not told of; any thread that starts a program (exec.h) may add one. */
static unsigned long lost;

static int is_set(const volatile char *slot)
{
	return slot[0] == '/';
}

static size_t length_of(const char *text, size_t max)
{
	size_t length = 0;

	while (length < max && text[length])
		length++;
	return length;
}

/* Of the directory of the FIFO and of all other files of the hooks. */
static size_t directory_length(void)
{
	size_t length = 0;

	while (length < SLOT_BYTES && report_slot[length])
		length++;
	return length < sizeof(FIFO_NAME) ? 0 : length - (sizeof(FIFO_NAME) - 1);
}

static size_t put_bytes(char *to, size_t at, const char *bytes, size_t length)
{
	/* Volatile: else the compiler makes a call of memcpy from the loop. */
	for (size_t i = 0; i < length; i++)
		((volatile char *)to)[at + i] = bytes[i];
	return at + length;
}

/* Opens, writes and closes; a program may close descriptors that it does not know, so none is kept. */
static int write_once(const volatile char *slot, int flags, const char *bytes, size_t length)
{
	long written;
	long file = system_call(SYS_openat, AT_FDCWD, (long)slot, flags | O_CLOEXEC, 0);

	if (file < 0)
		return 0;
	written = system_call(SYS_write, file, (long)bytes, (long)length, 0);
	system_call(SYS_close, file, 0, 0, 0);
	return written == (long)length;
}

#include "unseen.h"

/* One byte per lost report: what a process that ends now could tell no more. */
static void lose(void)
{
	unsigned long long limit[2];
	long failed = system_call(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)limit);

	if (!failed && limit[0] >= FILE_SIZE_MIN_BYTES && write_once(loss_slot, O_WRONLY | O_APPEND, "L", 1))
		return;
	__atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
	if (!is_in_sight() && !__atomic_exchange_n(&told_of_itself, 1, __ATOMIC_RELAXED))
		tell_unseen("");
}

static size_t put_head(char *to, const char *kind, unsigned long pid, unsigned long lost_before, size_t name_length,
		       size_t path_length)
{
	size_t at = 0;

	to[at++] = 0x1e;
	to[at++] = kind[0];
	to[at++] = kind[1];
	at = put_number(to, at, pid);
	at = put_number(to, at, lost_before);
	at = put_bytes(to, at, " -", 2);
	at = put_number(to, at, name_length);
	at = put_number(to, at, path_length);
	to[at++] = '\n';
	return at;
}

static void report(const char *kind, const char *name, size_t name_length, const char *directory,
		   size_t directory_bytes, const char *path, size_t path_length)
{
	size_t slash = directory_bytes ? 1 : 0;
	size_t total = directory_bytes + slash + path_length;
	unsigned long lost_before = __atomic_load_n(&lost, __ATOMIC_RELAXED);
	size_t at;

	if (HEAD_MAX_BYTES + name_length + total > sizeof(record)) {
		lose();
		return;
	}
	at = put_head(record, kind, (unsigned long)system_call(SYS_getpid, 0, 0, 0, 0), lost_before, name_length, total);
	at = put_bytes(record, at, name, name_length);
	at = put_bytes(record, at, directory, directory_bytes);
	at = put_bytes(record, at, "/", slash);
	at = put_bytes(record, at, path, path_length);
	/* For reading too: a FIFO without a reader would answer with SIGPIPE when the agent dies just now. */
	if (write_once(report_slot, O_RDWR | O_NONBLOCK, record, at))
		/* What was lost meanwhile is still to be told. */
		__atomic_fetch_sub(&lost, lost_before, __ATOMIC_RELAXED);
	else
		lose();
}

#include "node_options.h"
#include "symbols.h"
#include "words.h"
#include "java_options.h"
#include "exec.h"

/* Whether the last part of the path begins as the name of an interpreter: its arguments tell what can be expected. */
static int is_interpreter(const char *name, const char *end)
{
	/* The dynamic linker among them, which runs what its command line names. */
	static const char names[20][8] = { "python",  "pypy",	"node",	   "bun",     "deno", "ruby", "php",
					   "java",    "lsphp",	"zts-php", "swoole",  "franken", "graalpy", "uv",
					   "npm",     "pnpm",	"yarn",	   "ld-",     "ld.so", "ld64.so" };

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
		if (begins(name, end, names[n]))
			return 1;
	return 0;
}

static const char node_left[] =
	"blind: was started with --permission or a configuration file, with which the module hook would change what it does; "
	"it was left out";

/* From where it was read to where it stays. */
static void copy_program(size_t length)
{
	size_t i = 0;

	for (; i < length && i + 1 < sizeof(program); i++)
		((volatile char *)program)[i] = scratch[i];
}

static void hello(void)
{
	char arguments[ARGUMENTS_MAX_BYTES];
	long length = system_call(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)scratch, sizeof(scratch));
	long got = 0;
	const char *end, *base;
	int is_node, is_java;

	if (length < 0)
		length = 0;
	end = base = scratch + length;
	while (base > scratch && base[-1] != '/')
		base--;
	is_node = begins(base, end, "node");
	is_java = begins(base, end, "java");
	/* Options such as -I tell whether a language's hook can be expected. */
	if (is_interpreter(base, end)) {
		long file = system_call(SYS_openat, AT_FDCWD, (long)"/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
		if (file >= 0) {
			got = system_call(SYS_read, file, (long)arguments, sizeof(arguments), 0);
			system_call(SYS_close, file, 0, 0, 0);
		}
	}
	copy_program((size_t)length);
	if (is_java)
		leave_java_alone();
	report("LH", arguments, got > 0 ? (size_t)got : 0, "", 0, scratch, (size_t)length);
	if (is_node && leave_node_alone())
		report("NF", node_left, sizeof(node_left) - 1, "", 0, "", 0);
}

__attribute__((visibility("default"))) unsigned int la_version(unsigned int version)
{
	if (is_set(report_slot)) {
		map_unseen();
		hello();
	}
	/* Each version so far only added to what is not used here, and some linkers take none but their own. */
	return version;
}

__attribute__((visibility("default"))) unsigned int la_objopen(struct link_map *map, long list,
							       unsigned long *cookie)
{
	static const struct link_map *main_program;
	size_t length, base = 0;
	int has_slash = 0;
	long got;

	(void)cookie;
	if (!is_set(report_slot) || !map->name)
		return 0;
	/* The program itself has no name here; la_version has told it. */
	if (!map->name[0]) {
		if (!main_program && list == LM_ID_BASE)
			main_program = map;
		return 0;
	}
	length = length_of(map->name, REPORT_MAX_BYTES);
	for (size_t i = 0; i < length; i++) {
		if (map->name[i] != '/')
			continue;
		has_slash = 1;
		base = i + 1;
	}
	/* The one that the program itself is bound to; others (dlmopen) have variables of their own. */
	if (list == LM_ID_BASE && !real[EXECVE][0] && begins(map->name + base, map->name + length, "libc.so.") &&
	    !watch_starts(map, main_program))
		tell_unwatched();
	if (map->name[0] == '/') {
		report("LO", "", 0, "", 0, map->name, length);
	} else if (has_slash) {
		/* dlopen("./x.so") keeps its spelling. */
		got = system_call(SYS_getcwd, (long)scratch, sizeof(scratch), 0, 0);
		if (got > 1)
			report("LO", "", 0, scratch, (size_t)got - 1, map->name, length);
		else
			lose();
	}
	/* Else it is no file: linux-vdso.so.1. No bindings are audited: all other calls run at full speed. */
	return 0;
}
