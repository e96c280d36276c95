/* SPDX-License-Identifier: Apache-2.0
 * Plimsoll's own words in an environment: whether they are there, and a copy of it without them.
 * It must never touch another word, write to what it was given, or hand on a variable that was not set before. */
#pragma once

/* Most of an environment that is copied, on the stack; larger ones are handed on as they are. */
#define ENTRIES_MAX 4096
#define CHANGED_MAX_BYTES (16 * 1024)
/* What all directories of hooks have in their paths; the JVM's agent has one of its own. */
#define DIRECTORY_MARK "/plimsoll-hooks-"

/* hooks/environment.rs and java/start.rs write them: BEFORE directory … AFTER. */
struct word {
	char variable[20];
	char before[12];
	char after[24];
	char separator;
	/* Behind the directory of the FIFO; else behind any one with the mark. */
	char is_beside_fifo;
};
static const struct word words[6] = {
	{ "LD_AUDIT=", "", "/libplimsoll_audit.so", ':', 1 },
	{ "PYTHONPATH=", "", "/python", ':', 1 },
	{ "NODE_OPTIONS=", "--require \"", "/node/module_hook.cjs\"", ' ', 1 },
	{ "RUBYOPT=", "-r", "/ruby/feature_hook.rb", ' ', 1 },
	{ "PHP_INI_SCAN_DIR=", "", "/php", ':', 1 },
	{ "JAVA_TOOL_OPTIONS=", "-agentpath:", "/reports", ' ', 0 },
};
#define WORDS (sizeof(words) / sizeof(words[0]))
#define AUDIT_WORD 0
#define PHP_WORD 4
#define JAVA_WORD 5

static size_t bytes_of(const char *text)
{
	size_t length = 0;

	/* Volatile: else the compiler makes a call of strlen from the loop. */
	while (((const volatile char *)text)[length])
		length++;
	return length;
}

/* The text behind a beginning; 0 if it does not begin so. */
static const char *behind(const char *at, const char *beginning)
{
	for (; *beginning; at++, beginning++)
		if (*at != *beginning)
			return 0;
	return at;
}

static const char *behind_directory(const char *at, const struct word *word)
{
	size_t length = directory_length();

	if (word->is_beside_fifo) {
		for (size_t i = 0; i < length; i++)
			if (at[i] != report_slot[i])
				return 0;
		return at + length;
	}
	for (; *at && *at != word->separator; at++)
		if (behind(at, DIRECTORY_MARK))
			return at;
	return 0;
}

/* The end of the word, if it begins here. */
static const char *end_of_word(const char *at, const struct word *word)
{
	const char *end;

	at = behind(at, word->before);
	if (at)
		at = behind_directory(at, word);
	for (; at && *at && *at != word->separator; at++) {
		end = behind(at, word->after);
		if (end && (!*end || *end == word->separator))
			return end;
	}
	return 0;
}

/* Where the word begins in a variable's value, and ends; 0 if it is not there. */
static const char *find_word(const char *value, const struct word *word, const char **end)
{
	for (const char *at = value; *at; at++)
		if ((at == value || at[-1] == word->separator) && (*end = end_of_word(at, word)))
			return at;
	return 0;
}

/* Which word an entry of an environment has; WORDS for none. */
static size_t word_of(const char *entry)
{
	const char *end;

	for (size_t i = 0; i < WORDS; i++) {
		const char *value = behind(entry, words[i].variable);

		if (value)
			return find_word(value, &words[i], &end) ? i : WORDS;
	}
	return WORDS;
}

/* What an environment has of Plimsoll's, and what a copy without that needs. */
struct looked_at {
	unsigned char has[WORDS];
	size_t entries;
	size_t changed_bytes;
};

static void look_at(char *const *environment, struct looked_at *found)
{
	for (size_t i = 0; i < WORDS; i++)
		((volatile unsigned char *)found->has)[i] = 0;
	found->entries = found->changed_bytes = 0;
	for (; environment && environment[found->entries]; found->entries++) {
		const char *entry = environment[found->entries];
		size_t word = word_of(entry);

		if (word == WORDS)
			continue;
		found->has[word] = 1;
		found->changed_bytes += bytes_of(entry) + 1;
	}
}

/* Takes the word out of a copied entry; 0 if nothing is left of what the application set. */
static int take_word_out(char *entry, const struct word *word, int is_php)
{
	char *value = entry + bytes_of(word->variable);
	const char *from, *end;

	while ((from = find_word(value, word, &end))) {
		char *to = value + (from - value);

		/* PHP takes a variable that is set and empty for another thing than one that is not set. */
		if (from == value && !*end)
			return is_php ? (*value = 0, 1) : 0;
		if (*end)
			end++;
		else
			to--;
		do
			*(volatile char *)to++ = *end;
		while (*end++);
		if (!*value)
			return 0;
	}
	return 1;
}

/* Copies an environment without Plimsoll's words, as far as there is room: another thread may change it just now. */
static void copy_without_words(char *const *environment, const struct looked_at *room, char **copy, char *text)
{
	size_t entries = 0, used = 0;

	for (size_t i = 0; i < room->entries && environment[i]; i++) {
		char *entry = environment[i];
		size_t word = word_of(entry);
		size_t bytes = word == WORDS ? 0 : bytes_of(entry) + 1;

		if (bytes && used + bytes <= room->changed_bytes) {
			for (size_t b = 0; b + 1 < bytes; b++)
				((volatile char *)text)[used + b] = entry[b];
			((volatile char *)text)[used + bytes - 1] = 0;
			entry = text + used;
			used += bytes;
			/* Of what was copied: the entry may be another one by now. */
			word = word_of(entry);
			if (word < WORDS && !take_word_out(entry, &words[word], word == PHP_WORD))
				continue;
		}
		((char *volatile *)copy)[entries++] = entry;
	}
	copy[entries] = 0;
}
