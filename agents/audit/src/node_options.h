/* SPDX-License-Identifier: Apache-2.0
 * Takes the module hook out of NODE_OPTIONS before Node.js reads it, where a program asks for the permission model, which
 * would not let it read the hook and so keep it from starting, or for a file of options, which NODE_OPTIONS displaces.
 * It must never change anything else in the environment, nor grant the program anything. */
#pragma once

/* Enough for all fields of /proc/self/stat up to those below (proc(5)). */
#define STAT_MAX_BYTES 1024
#define STAT_NAME 2
#define STAT_ARGUMENTS 48
#define STAT_ENVIRONMENT 50
/* Of the hook in NODE_OPTIONS, around the directory of the FIFO of reports; hooks/environment.rs writes it. */
#define OPTION_BEFORE "--require \""
#define OPTION_AFTER "/node/module_hook.cjs\""
#define OPTION_MAX_BYTES (SLOT_BYTES + 64)

/* Memory that the kernel filled when the program started: texts, each ended by NUL. */
struct memory {
	char *from;
	char *until;
};

static int begins(const char *from, const char *until, const char *text)
{
	while (*text && from < until && *from == *text)
		from++, text++;
	return !*text;
}

/* Where the arguments or the environment lie. */
static int memory_of(const char *stat, size_t length, int field, struct memory *memory)
{
	unsigned long bounds[2] = { 0, 0 };
	int at = STAT_NAME;
	size_t i = length;

	/* A program's name can have spaces and parentheses in it. */
	while (i && stat[i - 1] != ')')
		i--;
	for (; i < length && at < field + 2; i++) {
		if (stat[i] == ' ')
			at++;
		else if (at >= field && at < field + 2 && stat[i] >= '0' && stat[i] <= '9')
			bounds[at - field] = bounds[at - field] * 10 + (unsigned long)(stat[i] - '0');
	}
	memory->from = (char *)bounds[0];
	memory->until = (char *)bounds[1];
	return bounds[0] && bounds[0] < bounds[1];
}

/* Whether a word asks for what the hook would displace or be refused by. */
static int forbids_hook(const char *from, const char *until)
{
	static const char words[4][40] = { "--permission", "--experimental-permission", "--experimental-config-file",
					   "--experimental-default-config-file" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (begins(from, until, words[i]))
			return 1;
	return 0;
}

static int has_such_word(const char *from, const char *until)
{
	int starts = 1;

	for (; from < until; from++) {
		if (starts && forbids_hook(from, until))
			return 1;
		starts = *from == 0 || *from == ' ' || *from == '"';
	}
	return 0;
}

/* The hook's option, ended by NUL, and its length; 0 where no hook can be. */
static size_t hook_option(char to[OPTION_MAX_BYTES])
{
	static const char before[] = OPTION_BEFORE, after[] = OPTION_AFTER;
	size_t length = 0, directory = directory_length();

	if (!directory)
		return 0;
	for (size_t i = 0; i + 1 < sizeof(before); i++)
		((volatile char *)to)[length++] = before[i];
	for (size_t i = 0; i < directory; i++)
		to[length++] = report_slot[i];
	for (size_t i = 0; i < sizeof(after); i++)
		((volatile char *)to)[length++] = after[i];
	return length - 1;
}

/* Empties a variable, which ends at `end`, of a word in its value. */
static void blank_word(char *variable, char *value, char *word, const char *word_end, const char *end)
{
	if (word_end < end) {
		for (; word < word_end; word++)
			*(volatile char *)word = ' ';
		return;
	}
	/* Behind the application's own, or the only one: then as if the variable was never set. */
	for (word = word == value ? variable : word - 1; word < end; word++)
		*(volatile char *)word = 0;
}

/* Empties one variable of the option; whether it was there. */
static int take_out(char *variable, char *value, char *end, const char *option, size_t length)
{
	char *at = value;

	while (at < end && !begins(at, end, option))
		at++;
	if (at >= end)
		return 0;
	blank_word(variable, value, at, at + length, end);
	return 1;
}

/* Where this program's arguments and environment lie; 0 if that is not told. */
static int own_memory(char stat[STAT_MAX_BYTES], struct memory *arguments, struct memory *environment)
{
	long file = system_call(SYS_openat, AT_FDCWD, (long)"/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);
	long got;

	if (file < 0)
		return 0;
	got = system_call(SYS_read, file, (long)stat, STAT_MAX_BYTES, 0);
	system_call(SYS_close, file, 0, 0, 0);
	return got > 0 && memory_of(stat, (size_t)got, STAT_ARGUMENTS, arguments) &&
	       memory_of(stat, (size_t)got, STAT_ENVIRONMENT, environment);
}

/* Whether the hook was taken out of this program's options. */
static int leave_node_alone(void)
{
	static const char name[] = "NODE_OPTIONS=";
	char stat[STAT_MAX_BYTES], option[OPTION_MAX_BYTES];
	struct memory arguments, environment;
	size_t length = hook_option(option);
	int asked, taken = 0;

	if (!length || !own_memory(stat, &arguments, &environment))
		return 0;
	asked = has_such_word(arguments.from, arguments.until);
	for (char *at = environment.from; at < environment.until;) {
		char *end = at;

		while (end < environment.until && *end)
			end++;
		if (begins(at, end, name) && (asked || has_such_word(at + sizeof(name) - 1, end)))
			taken |= take_out(at, at + sizeof(name) - 1, end, option, length);
		at = end + 1;
	}
	return taken;
}
