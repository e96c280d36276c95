/* SPDX-License-Identifier: Apache-2.0
 * System calls, and the few functions of C that a compiler expects, so that the agent needs no library.
 * It must never touch errno or anything else of the C library that the JVM runs with. */
#pragma once

#define AT_FDCWD (-100)
#define EAGAIN 11
#define EINTR 4
#define O_WRONLY 01
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define O_PATH 010000000
#define S_IFMT 0170000
#define S_IFIFO 0010000
#define SIG_BLOCK 0
#define SIGPIPE 13
#define CLOCK_MONOTONIC 1
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

#if defined(__x86_64__)
#define SYS_write 1
#define SYS_close 3
#define SYS_fstat 5
#define SYS_rt_sigprocmask 14
#define SYS_getpid 39
#define SYS_futex 202
#define SYS_clock_gettime 228
#define SYS_openat 257
#define SYS_readlinkat 267
#define STAT_MODE_AT 24
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
#define SYS_openat 56
#define SYS_close 57
#define SYS_write 64
#define SYS_readlinkat 78
#define SYS_fstat 80
#define SYS_futex 98
#define SYS_clock_gettime 113
#define SYS_rt_sigprocmask 135
#define SYS_getpid 172
#define STAT_MODE_AT 16
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

/* The compiler makes calls of these, whatever it is told; volatile keeps it from making them out of themselves. */
__attribute__((visibility("hidden"))) void *memcpy(void *to, const void *from, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((volatile char *)to)[i] = ((const char *)from)[i];
	return to;
}

__attribute__((visibility("hidden"))) void *memset(void *to, int value, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((volatile char *)to)[i] = (char)value;
	return to;
}

static size_t length_of(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

static int same(const char *a, const char *b, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

static int starts_with(const char *text, size_t length, const char *prefix)
{
	size_t wanted = length_of(prefix);

	return length >= wanted && same(text, prefix, wanted);
}

static unsigned long long now_ms(void)
{
	long time[2] = { 0, 0 };

	system_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)time, 0, 0);
	return (unsigned long long)time[0] * 1000 + (unsigned long long)time[1] / 1000000;
}

/* Sleeps while *word is value, at most so long. */
static void wait_while(int *word, int value, unsigned long long ms)
{
	long time[2] = { (long)(ms / 1000), (long)(ms % 1000) * 1000000 };

	system_call(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, value, (long)time);
}

static void wake(int *word)
{
	system_call(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, 1, 0);
}
