/* SPDX-License-Identifier: Apache-2.0
 * Reports every object that the dynamic linker opens to the FIFO named by PLIMSOLL_HOOK_FIFO (rtld-audit(7)).
 * It must never block or end the program, nor call into any library: it has only system calls.
 *
 * A report is one write of at most PIPE_BUF bytes: "L <pid> <lost> <bytes>\n<path>". */
typedef unsigned long size_t;
typedef long ssize_t;

#define REPORT_MAX_BYTES 4096
#define HEAD_MAX_BYTES 64
#define ENVIRONMENT_MAX_BYTES (1 << 20)
#define O_RDONLY 0
#define O_WRONLY 1
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define AT_FDCWD (-100)
/* The newest version of the interface that this file knows. */
#define AUDIT_VERSION 2u

/* The begin of struct link_map of <link.h>. */
struct link_map {
	unsigned long l_addr;
	const char *l_name;
};

#if defined(__x86_64__)
#define SYS_read 0
#define SYS_write 1
#define SYS_close 3
#define SYS_getpid 39
#define SYS_getcwd 79
#define SYS_readlinkat 267
#define SYS_openat 257
static long system_call(long number, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
#define SYS_getcwd 17
#define SYS_openat 56
#define SYS_close 57
#define SYS_read 63
#define SYS_write 64
#define SYS_readlinkat 78
#define SYS_getpid 172
static long system_call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "plimsoll: no system calls are known for this architecture"
#endif

static char fifo[REPORT_MAX_BYTES];
static unsigned long lost;

/* Reads the FIFO's path from the environment that the kernel gave the program. */
static void find_fifo(void)
{
	static const char name[] = "PLIMSOLL_HOOK_FIFO=";
	char chunk[512];
	size_t matched = 0, length = 0, total = 0;
	int state = 0; /* 0: comparing the name, 1: copying the value, 2: passing over another variable */
	long file = system_call(SYS_openat, AT_FDCWD, (long)"/proc/self/environ", O_RDONLY | O_CLOEXEC, 0);

	if (file < 0)
		return;
	while (total < ENVIRONMENT_MAX_BYTES) {
		long got = system_call(SYS_read, file, (long)chunk, sizeof(chunk), 0);
		if (got <= 0)
			break;
		total += (size_t)got;
		for (long i = 0; i < got; i++) {
			char c = chunk[i];
			if (state == 1) {
				if (length + 1 >= sizeof(fifo)) {
					fifo[0] = 0;
					goto done;
				}
				fifo[length++] = c;
				if (!c)
					goto done;
			} else if (!c) {
				state = 0;
				matched = 0;
			} else if (state == 0) {
				if (c != name[matched])
					state = 2;
				else if (++matched == sizeof(name) - 1)
					state = 1;
			}
		}
	}
done:
	system_call(SYS_close, file, 0, 0, 0);
}

static size_t put_number(char *to, unsigned long value)
{
	char digits[20];
	size_t count = 0, at = 0;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	while (count)
		to[at++] = digits[--count];
	return at;
}

static void report(const char *directory, size_t directory_length, const char *path, size_t length)
{
	char record[REPORT_MAX_BYTES];
	size_t at = 0, i, total = directory_length ? directory_length + 1 + length : length;
	long file;

	if (total + HEAD_MAX_BYTES > sizeof(record)) {
		lost++;
		return;
	}
	record[at++] = 'L';
	record[at++] = ' ';
	at += put_number(record + at, (unsigned long)system_call(SYS_getpid, 0, 0, 0, 0));
	record[at++] = ' ';
	at += put_number(record + at, lost);
	record[at++] = ' ';
	at += put_number(record + at, total);
	record[at++] = '\n';
	for (i = 0; i < directory_length; i++)
		record[at++] = directory[i];
	if (directory_length)
		record[at++] = '/';
	for (i = 0; i < length; i++)
		record[at++] = path[i];
	file = system_call(SYS_openat, AT_FDCWD, (long)fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (file < 0) {
		lost++;
		return;
	}
	if (system_call(SYS_write, file, (long)record, (long)at, 0) != (long)at)
		lost++;
	system_call(SYS_close, file, 0, 0, 0);
}

__attribute__((visibility("default"))) unsigned int la_version(unsigned int version)
{
	find_fifo();
	/* Each version only adds fields that are not used here; a linker takes none newer than its own. */
	return version < AUDIT_VERSION ? version : AUDIT_VERSION;
}

__attribute__((visibility("default"))) unsigned int la_objopen(struct link_map *map, long namespace_id,
								unsigned long *cookie)
{
	char buffer[REPORT_MAX_BYTES];
	const char *name = map->l_name;
	size_t length = 0;
	long got;

	(void)namespace_id;
	(void)cookie;
	if (!fifo[0] || !name)
		return 0;
	while (name[length] && length < REPORT_MAX_BYTES)
		length++;
	if (!length) {
		/* The program itself. */
		got = system_call(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)buffer, sizeof(buffer));
		if (got > 0)
			report(buffer, 0, buffer, (size_t)got);
	} else if (name[0] == '/') {
		report(name, 0, name, length);
	} else {
		/* dlopen("./x.so") keeps its spelling; linux-vdso.so.1 is no file. */
		for (size_t i = 0; i < length; i++) {
			if (name[i] != '/')
				continue;
			got = system_call(SYS_getcwd, (long)buffer, sizeof(buffer), 0, 0);
			if (got > 1)
				report(buffer, (size_t)got - 1, name, length);
			break;
		}
	}
	/* No bindings are audited: calls run at full speed. */
	return 0;
}
