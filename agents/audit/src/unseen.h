/* SPDX-License-Identifier: Apache-2.0
 * A page that all processes of the tree share with the agent: who lost the hooks' files from sight, and so cannot write to
 * the FIFO any more, tells it here. It needs neither a descriptor nor a path, and is there in every root directory.
 * It must never be written to for anything that the FIFO could take. */
#pragma once

/* Of the file, beside the FIFO of reports; unseen.rs has the same names and numbers. */
#define UNSEEN_NAME "/unseen"
#define UNSEEN_BYTES 4096
#define UNSEEN_TEXT_BYTES 256
#define NAMED_MAX 7

#if defined(__x86_64__)
#define SYS_faccessat 269
#elif defined(__i386__)
#define SYS_faccessat 307
#else
#define SYS_faccessat 48
#endif
#define F_OK 0
#define X_OK 1
#define ENOENT 2
#define EACCES 13
#define ENOTDIR 20

#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20

struct unseen {
	/* How many told something, of whom the first NAMED_MAX are named. */
	unsigned int count;
	char reserved[2 * UNSEEN_TEXT_BYTES - sizeof(unsigned int)];
	struct {
		char program[UNSEEN_TEXT_BYTES];
		/* What it started; empty if it went on by itself. */
		char started[UNSEEN_TEXT_BYTES];
	} named[NAMED_MAX];
};
_Static_assert(sizeof(struct unseen) == UNSEEN_BYTES, "one page");

static struct unseen *unseen;
/* This program, and whether it told that it loads what nobody sees. */
static char program[UNSEEN_TEXT_BYTES];
static int told_of_itself;

#if defined(__i386__)
#define SYS_mmap 90
static void *map_memory(size_t length, long protection, long flags, long file)
{
	unsigned long arguments[6] = { 0, length, (unsigned long)protection, (unsigned long)flags, (unsigned long)file, 0 };
	long at = system_call(SYS_mmap, (long)arguments, 0, 0, 0);

	return (unsigned long)at >= -4095ul ? 0 : (void *)at;
}
#elif defined(__x86_64__)
#define SYS_mmap 9
static void *map_memory(size_t length, long protection, long flags, long file)
{
	long at;
	register long r10 __asm__("r10") = flags;
	register long r8 __asm__("r8") = file;
	register long r9 __asm__("r9") = 0;
	__asm__ volatile("syscall"
			 : "=a"(at)
			 : "a"(SYS_mmap), "D"(0), "S"(length), "d"(protection), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return (unsigned long)at >= -4095ul ? 0 : (void *)at;
}
#else
#define SYS_mmap 222
static void *map_memory(size_t length, long protection, long flags, long file)
{
	register long x8 __asm__("x8") = SYS_mmap;
	register long x0 __asm__("x0") = 0;
	register long x1 __asm__("x1") = (long)length;
	register long x2 __asm__("x2") = protection;
	register long x3 __asm__("x3") = flags;
	register long x4 __asm__("x4") = file;
	register long x5 __asm__("x5") = 0;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return (unsigned long)x0 >= -4095ul ? 0 : (void *)x0;
}
#endif

static void copy_text(char *to, const char *from)
{
	size_t i = 0;

	for (; from[i] && i + 1 < UNSEEN_TEXT_BYTES; i++)
		((volatile char *)to)[i] = from[i];
	((volatile char *)to)[i] = 0;
}

/* When the program starts: later its file may be out of sight. */
static void map_unseen(void)
{
	static const char name[] = UNSEEN_NAME;
	char path[SLOT_BYTES + sizeof(name)];
	size_t at = directory_length();
	long file;

	for (size_t i = 0; i < at; i++)
		((volatile char *)path)[i] = report_slot[i];
	for (size_t i = 0; i < sizeof(name); i++)
		((volatile char *)path)[at + i] = name[i];
	file = system_call(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0);
	if (file < 0)
		return;
	unseen = map_memory(UNSEEN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file);
	system_call(SYS_close, file, 0, 0, 0);
}

/* Whether the hooks' files are where this process's environment says; a refusal of the call itself says nothing. */
static int is_in_sight(void)
{
	long failed = system_call(SYS_faccessat, AT_FDCWD, (long)loss_slot, F_OK, 0);

	return failed != -ENOENT && failed != -ENOTDIR && failed != -EACCES;
}

static void tell_unseen(const char *started)
{
	unsigned int index;

	if (!unseen)
		return;
	index = __atomic_fetch_add(&unseen->count, 1, __ATOMIC_RELAXED);
	if (index >= NAMED_MAX)
		return;
	copy_text(unseen->named[index].started, started);
	copy_text(unseen->named[index].program, program);
}
