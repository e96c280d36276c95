/* SPDX-License-Identifier: Apache-2.0
 * Constants of the kernel, and the few functions of C that a compiler expects, so that the agent needs no library.
 * It must never touch errno or anything else of the C library that the JVM runs with. */
#pragma once

#include "system_calls.h"

#define EAGAIN 11
#define EINTR 4
#define EISDIR 21
#define SEEK_SET 0
#define SEEK_END 2
#define S_IFMT 0170000
#define S_IFIFO 0010000
#define SIG_BLOCK 0
#define SIGPIPE 13
#define CLOCK_MONOTONIC 1
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

/* The compiler makes calls of these, whatever it is told; volatile keeps it from making them out of themselves. */
__attribute__((visibility("hidden"))) void *memcpy(void *to, const void *from, size_t length)
{
#if defined(__x86_64__) || defined(__i386__)
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(length) : : "memory");
	return to;
#endif
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

static int ends_with(const char *text, size_t length, const char *ending)
{
	size_t wanted = length_of(ending);

	return length >= wanted && same(text + length - wanted, ending, wanted);
}

static unsigned long long now_ms(void)
{
	long time[2] = { 0, 0 };

	system_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)time, 0, 0);
	return (unsigned long long)time[0] * 1000 + (unsigned long)time[1] / 1000000;
}

/* Sleeps while *word is value, at most so long. */
static void wait_while(int *word, int value, unsigned long ms)
{
	long time[2] = { (long)(ms / 1000), (long)(ms % 1000) * 1000000 };

	system_call(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, value, (long)time);
}

static void wake(int *word)
{
	system_call(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, 1, 0);
}
