/* SPDX-License-Identifier: Apache-2.0
 * How many classes the JVM has unloaded: one of its own counters (hsperfdata, format 2.0), read where the JVM has it
 * mapped. No event tells it without a capability.
 * It must never write there, nor look beyond the mapping. */
#pragma once

#define PERF_ENTRIES 4096
#define MAPS_BYTES 8192

/* 0: the JVM keeps no counters in a file. Classes of the shared archive are counted apart. */
static const volatile long long *perf_counter, *perf_counter_shared;

static int text_is(const unsigned char *text, const unsigned char *end, const char *wanted)
{
	size_t length = length_of(wanted) + 1;

	return (size_t)(end - text) >= length && same((const char *)text, wanted, length);
}

static const volatile long long *perf_find(const unsigned char *from, size_t size, const char *wanted)
{
	unsigned long entry = size > 32 ? little(from + 24, 4) : size, count = size > 32 ? little(from + 28, 4) : 0;

	/* Little-endian, as all machines that this is built for. */
	if (size <= 32 || little(from, 4) != 0xc0c0feca || from[4] != 1)
		return 0;
	for (unsigned long i = 0; i < count && i < PERF_ENTRIES && entry + 20 < size; i++) {
		unsigned long length = little(from + entry, 4), name = little(from + entry + 4, 4);
		unsigned long data = little(from + entry + 16, 4);

		if (!length || length > size - entry || name >= length)
			return 0;
		if (from[entry + 12] == 'J' && data + 8 <= length && (entry + data) % 8 == 0 &&
		    text_is(from + entry + name, from + entry + length, wanted))
			return (const volatile long long *)(from + entry + data);
		entry += length;
	}
	return 0;
}

static unsigned long hexadecimal(const char *text, size_t *at, size_t length)
{
	unsigned long value = 0;

	while (*at < length && hex_digit(text[*at]) >= 0)
		value = value << 4 | (unsigned long)hex_digit(text[(*at)++]);
	return value;
}

/* One line of maps: "from-to rw-s … /tmp/hsperfdata_user/1". */
static void perf_mapping(const char *line, size_t length)
{
	size_t at = 0;
	unsigned long from = hexadecimal(line, &at, length), to;

	if (at + 1 >= length || line[at++] != '-')
		return;
	to = hexadecimal(line, &at, length);
	if (at + 4 >= length || line[at + 1] != 'r' || line[at + 4] != 's')
		return;
	for (; at < length; at++) {
		if (!starts_with(line + at, length - at, "/hsperfdata_"))
			continue;
		perf_counter = perf_find((const unsigned char *)from, to - from, "java.cls.unloadedClasses");
		perf_counter_shared =
			perf_find((const unsigned char *)from, to - from, "java.cls.sharedUnloadedClasses");
		return;
	}
}

static void find_perf_data(void)
{
	static char text[MAPS_BYTES];
	int file = (int)system_call(SYS_openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	size_t have = 0;
	long got;

	if (file < 0)
		return;
	while (!perf_counter &&
	       (got = system_call(SYS_read, file, (long)(text + have), (long)(sizeof(text) - have), 0)) > 0) {
		size_t from = 0;

		have += (size_t)got;
		for (size_t i = 0; i < have && !perf_counter; i++) {
			if (text[i] == '\n') {
				perf_mapping(text + from, i - from);
				from = i + 1;
			}
		}
		/* A line longer than all of this has no name that is looked for. */
		have = from || have < sizeof(text) ? put_bytes(text, 0, text + from, have - from) : 0;
	}
	system_call(SYS_close, file, 0, 0, 0);
}

static unsigned long unloaded_classes(void)
{
	return (unsigned long)((perf_counter ? *perf_counter : 0) + (perf_counter_shared ? *perf_counter_shared : 0));
}
