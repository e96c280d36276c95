/* SPDX-License-Identifier: Apache-2.0
 * What the libraries in other people's processes share: system calls, and numbers as text.
 * It must never touch errno or anything else of the C library that the process runs with. */
#pragma once

typedef unsigned long size_t;

#define AT_FDCWD (-100)
/* These values of fcntl.h are the same on all architectures below. */
#define O_RDONLY 0
#define O_WRONLY 01
#define O_RDWR 02
#define O_APPEND 02000
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define O_PATH 010000000

#if defined(__x86_64__)
#define SYS_read 0
#define SYS_write 1
#define SYS_close 3
#define SYS_fstat 5
#define SYS_lseek 8
#define SYS_rt_sigprocmask 14
#define SYS_getpid 39
#define SYS_getcwd 79
#define SYS_futex 202
#define SYS_getdents64 217
#define SYS_clock_gettime 228
#define SYS_openat 257
#define SYS_readlinkat 267
#define SYS_prlimit64 302
#define STAT_MODE_AT 24
#define STAT_INODE_AT 8
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
#elif defined(__i386__)
#define SYS_read 3
#define SYS_write 4
#define SYS_close 6
#define SYS_lseek 19
#define SYS_getpid 20
#define SYS_rt_sigprocmask 175
#define SYS_getcwd 183
/* The form with a 64-bit inode, whose older field is read. */
#define SYS_fstat 197
#define SYS_getdents64 220
#define SYS_futex 240
#define SYS_clock_gettime 265
#define SYS_openat 295
#define SYS_readlinkat 305
#define SYS_prlimit64 340
#define STAT_MODE_AT 16
#define STAT_INODE_AT 12
static long system_call(long number, long a, long b, long c, long d)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return result;
}
#elif defined(__aarch64__)
#define SYS_getcwd 17
#define SYS_openat 56
#define SYS_close 57
#define SYS_getdents64 61
#define SYS_lseek 62
#define SYS_read 63
#define SYS_write 64
#define SYS_readlinkat 78
#define SYS_fstat 80
#define SYS_futex 98
#define SYS_clock_gettime 113
#define SYS_rt_sigprocmask 135
#define SYS_getpid 172
#define SYS_prlimit64 261
#define STAT_MODE_AT 16
#define STAT_INODE_AT 8
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

/* A space, and the number in decimal digits; the place behind them. */
static size_t put_number(char *to, size_t at, unsigned long value)
{
	char digits[20];
	size_t count = 0;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	to[at++] = ' ';
	while (count)
		to[at++] = digits[--count];
	return at;
}
