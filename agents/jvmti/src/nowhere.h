/* SPDX-License-Identifier: Apache-2.0
 * Classes that came from somewhere, but nothing tells from where: how many, and the first of them as an example.
 * It must never be asked outside of the agent's own thread. */
#pragma once

/* Longest name that is told of a class without a place, and of its loader's class. */
#define EXAMPLE_MAX_BYTES 512

static unsigned long nowhere, nowhere_told;
static char nowhere_class[EXAMPLE_MAX_BYTES], nowhere_loader[EXAMPLE_MAX_BYTES];
static size_t nowhere_class_length, nowhere_loader_length;

static void count_nowhere(const char *name, size_t length, const char *loader, size_t loader_length)
{
	if (nowhere++)
		return;
	nowhere_class_length =
		put_bytes(nowhere_class, 0, name, length < sizeof(nowhere_class) ? length : sizeof(nowhere_class));
	nowhere_loader_length = put_bytes(nowhere_loader, 0, loader, loader_length);
}

static void tell_nowhere(void)
{
	char text[2 * EXAMPLE_MAX_BYTES + 32];
	size_t length;

	if (nowhere == nowhere_told)
		return;
	nowhere_told = nowhere;
	length = put_number(text, 0, nowhere);
	text[length++] = '\n';
	length = put_bytes(text, length, nowhere_class, nowhere_class_length);
	text[length++] = '\n';
	length = put_bytes(text, length, nowhere_loader, nowhere_loader_length);
	report("JN", text + 1, length - 1, "", 0);
}
