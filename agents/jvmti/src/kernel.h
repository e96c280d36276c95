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

/* Names are measured, compared and copied for each class: by words, not by bytes. A word may stand anywhere. */
typedef unsigned long long __attribute__((aligned(1), may_alias)) word;
#define WORD_BYTES 8
#define EACH_BYTE(value) (0x0101010101010101ull * (value))

/* Whether a byte of the word is zero. */
static int has_zero(unsigned long long bytes)
{
	return ((bytes - EACH_BYTE(0x01)) & ~bytes & EACH_BYTE(0x80)) != 0;
}

static size_t length_of(const char *text)
{
	size_t length = 0;

	/* A whole aligned word lies in one page: where its first byte can be read, its last one can, too. */
	for (; (size_t)(text + length) % WORD_BYTES; length++)
		if (!text[length])
			return length;
	while (!has_zero(*(const word *)(text + length)))
		length += WORD_BYTES;
	while (text[length])
		length++;
	return length;
}

static int has_byte(const char *text, size_t length, char wanted)
{
	size_t i = 0;

	for (; i + WORD_BYTES <= length; i += WORD_BYTES)
		if (has_zero(*(const word *)(text + i) ^ EACH_BYTE((unsigned char)wanted)))
			return 1;
	for (; i < length; i++)
		if (text[i] == wanted)
			return 1;
	return 0;
}

static int same(const char *a, const char *b, size_t length)
{
	size_t i = 0;

	for (; i + WORD_BYTES <= length; i += WORD_BYTES)
		if (*(const word *)(a + i) != *(const word *)(b + i))
			return 0;
	for (; i < length; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

/* Appends; the new length. What is copied may begin within what is written to, but not the other way round. */
static size_t put_bytes(char *to, size_t at, const char *bytes, size_t length)
{
	size_t i = 0;

	for (; i + WORD_BYTES <= length; i += WORD_BYTES)
		*(word *)(to + at + i) = *(const word *)(bytes + i);
	for (; i < length; i++)
		to[at + i] = bytes[i];
	return at + length;
}

static int starts_with(const char *text, size_t length, const char *prefix)
{
	for (size_t i = 0; prefix[i]; i++)
		if (i == length || text[i] != prefix[i])
			return 0;
	return 1;
}

static int ends_with(const char *text, size_t length, const char *ending)
{
	size_t wanted = length_of(ending);

	return length >= wanted && starts_with(text + length - wanted, wanted, ending);
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
