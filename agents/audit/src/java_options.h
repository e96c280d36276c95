/* SPDX-License-Identifier: Apache-2.0
 * Takes the JVM's agent out of JAVA_TOOL_OPTIONS before a JVM reads it that is told to write an archive of its classes: such
 * a JVM ends at once if it finds an agent among its options. It is attached to then.
 * It must never change anything else in the environment, nor wait for a file of options or read what is not a plain file. */
#pragma once

/* Most of a file of options that is read. */
#define OPTIONS_FILE_MAX_BYTES (8 * 1024)
/* Files of options that are looked into, in an environment and in arguments. */
#define OPTIONS_FILES_MAX 16
#define STAT_BYTES 256
#define S_IFMT 0170000
#define S_IFREG 0100000

static int writes_archive(const char *from, const char *until)
{
	/* java/archives.rs has the same list. */
	static const char archive_words[5][32] = { "-XX:ArchiveClassesAtExit=", "-XX:+AutoCreateSharedArchive",
						   "-XX:+RecordDynamicDumpInfo", "-XX:+DumpSharedSpaces", "-Xshare:dump" };

	for (size_t i = 0; i < sizeof(archive_words) / sizeof(archive_words[0]); i++)
		if (begins(from, until, archive_words[i]))
			return 1;
	return 0;
}

static int is_between_words(char letter)
{
	return !letter || letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r' || letter == '"' || letter == '\'';
}

static int asks_for_archive(const char *from, const char *until)
{
	for (int starts = 1; from < until; from++) {
		if (starts && writes_archive(from, until))
			return 1;
		starts = is_between_words(*from);
	}
	return 0;
}

static int is_plain_file(const char *path)
{
	unsigned char stat[STAT_BYTES];
	long file = system_call(SYS_openat, AT_FDCWD, (long)path, O_PATH | O_CLOEXEC, 0);
	long failed;

	if (file < 0)
		return 0;
	failed = system_call(SYS_fstat, file, (long)stat, 0, 0);
	system_call(SYS_close, file, 0, 0, 0);
	return !failed && (((unsigned)stat[STAT_MODE_AT] | (unsigned)stat[STAT_MODE_AT + 1] << 8) & S_IFMT) == S_IFREG;
}

static int file_asks_for_archive(const char *path)
{
	char text[OPTIONS_FILE_MAX_BYTES];
	long file, got = 0, length = 0;

	if (!is_plain_file(path))
		return 0;
	file = system_call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (file < 0)
		return 0;
	do {
		length += got;
		got = system_call(SYS_read, file, (long)(text + length), (long)sizeof(text) - length, 0);
	} while (got > 0 && length + got < (long)sizeof(text));
	system_call(SYS_close, file, 0, 0, 0);
	return asks_for_archive(text, text + length + (got > 0 ? got : 0));
}

/* Whether a word names a file of options that asks for an archive. */
static int names_such_file(const char *from, const char *until, int *files)
{
	static const char file_words[3][24] = { "@", "-XX:Flags=", "-XX:VMOptionsFile=" };
	char path[SLOT_BYTES];

	for (size_t i = 0; i < sizeof(file_words) / sizeof(file_words[0]); i++) {
		const char *at = from + bytes_of(file_words[i]);
		size_t length = 0;

		if (!begins(from, until, file_words[i]))
			continue;
		while (at + length < until && !is_between_words(at[length]))
			length++;
		if (!length || length >= sizeof(path) || ++*files > OPTIONS_FILES_MAX)
			return 0;
		put_bytes(path, 0, at, length);
		path[length] = 0;
		return file_asks_for_archive(path);
	}
	return 0;
}

/* The JVM's own options end at its main class; a word behind `-cp`, `-p` or `--…` is that option's. */
static int arguments_ask_for_archive(const struct memory *arguments)
{
	const char *at = arguments->from;
	/* The program's name is nothing to look at, either. */
	int takes_value = 1, files = 0;

	while (at < arguments->until) {
		const char *end = at;
		int is_option = *at == '-' || *at == '@';

		while (end < arguments->until && *end)
			end++;
		if (writes_archive(at, end))
			return 1;
		if ((!is_option && !takes_value) || begins(at, end, "-jar") || (end - at == 2 && begins(at, end, "-m")) ||
		    (end - at == 8 && begins(at, end, "--module")))
			return 0;
		if (is_option && names_such_file(at, end, &files))
			return 1;
		takes_value = is_option && (begins(at, end, "--") || begins(at, end, "-cp") || begins(at, end, "-classpath") ||
					    (end - at == 2 && begins(at, end, "-p")));
		at = end + 1;
	}
	return 0;
}

static int variable_asks_for_archive(const char *value, const char *end)
{
	int starts = 1, files = 0;

	if (asks_for_archive(value, end))
		return 1;
	for (const char *at = value; at < end; at++) {
		if (starts && names_such_file(at, end, &files))
			return 1;
		starts = is_between_words(*at);
	}
	return 0;
}

/* Empties a variable of the agent's option. */
static void take_agent_out(char *variable, char *value, char *end)
{
	const char *word_end;
	const char *word = find_word(value, &words[JAVA_WORD], &word_end);

	if (word)
		blank_word(variable, value, value + (word - value), word_end, end);
}

static void leave_java_alone(void)
{
	static const char variables[3][20] = { "JAVA_TOOL_OPTIONS=", "JDK_JAVA_OPTIONS=", "_JAVA_OPTIONS=" };
	char stat[STAT_MAX_BYTES];
	struct memory arguments, environment;
	int asked;

	if (!own_memory(stat, &arguments, &environment))
		return;
	asked = arguments_ask_for_archive(&arguments);
	/* First whether any asks, then what is to be taken out. */
	for (int again = 0; again < 2; again++) {
		for (char *at = environment.from; at < environment.until;) {
			char *end = at;

			while (end < environment.until && *end)
				end++;
			for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]) && !again && !asked; i++)
				if (begins(at, end, variables[i]))
					asked = variable_asks_for_archive(at + bytes_of(variables[i]), end);
			if (again && asked && end < environment.until && begins(at, end, variables[0]))
				take_agent_out(at, at + bytes_of(variables[0]), end);
			at = end + 1;
		}
	}
}
