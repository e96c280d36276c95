/* SPDX-License-Identifier: Apache-2.0
 * Between a program and the C library's functions that start other programs. Where the hooks' files are out of sight (another
 * root directory), the new program gets the environment without Plimsoll's words, with which its linker would complain, and
 * Node.js, Ruby and JVMs not start; where the application leaves them out itself, the agent is told.
 * It must never change what the application handed over, nor use other memory than the stack before an exec: it may run in a
 * child that shares the memory of its parent (vfork), in several threads, or in a signal's handler. */
#pragma once

typedef __builtin_va_list va_list;

typedef char *const *texts;

/* The C library's functions that start programs: ours for each, and for an older one of the same name (else the same). */
#define START_FUNCTIONS(each)                                  \
	each(EXECVE, "execve", our_execve, our_execve)         \
	each(EXECV, "execv", our_execv, our_execv)             \
	each(EXECVP, "execvp", our_execvp, our_execvp)         \
	each(EXECVPE, "execvpe", our_execvpe, our_execvpe)     \
	each(EXECL, "execl", our_execl, our_execl)             \
	each(EXECLP, "execlp", our_execlp, our_execlp)         \
	each(EXECLE, "execle", our_execle, our_execle)         \
	each(FEXECVE, "fexecve", our_fexecve, our_fexecve)     \
	each(EXECVEAT, "execveat", our_execveat, our_execveat) \
	each(SPAWN, "posix_spawn", our_spawn, our_older_spawn) \
	each(SPAWNP, "posix_spawnp", our_spawnp, our_older_spawnp) \
	each(SYSTEM, "system", our_system, our_system)         \
	each(POPEN, "popen", our_popen, our_older_popen)

#define CONSTANT_OF(function, name, own, older) function,
enum function { START_FUNCTIONS(CONSTANT_OF) FUNCTIONS };
#define NAME_OF(function, name, own, older) name,
static const char function_names[FUNCTIONS][13] = { START_FUNCTIONS(NAME_OF) };
/* Of functions whose behaviour changed once, an older one is there too. */
#define VERSIONS_MAX 2

/* The C library's own, by version; set once, before any of them can be called. */
static unsigned long real[FUNCTIONS][VERSIONS_MAX];
/* Its variable `environ`, which may lie in the program; 0 if it was not found. */
static char ***environ_at;

/* What is tried along a PATH, by the program itself, is not there as a rule. */
static int can_start(const char *path)
{
	/* The system refuses it. */
	if (!path)
		return 0;
	for (const char *at = path; *at; at++)
		if (*at == '/')
			return !system_call(SYS_faccessat, AT_FDCWD, (long)path, X_OK, 0);
	return 1;
}

/* A program was started, or is about to be, without words that would tell of it. */
static void tell_emptied(const struct looked_at *found, const char *path, unsigned long pid)
{
	static const char audit[] = "LD_AUDIT", both[] = "LD_AUDIT JAVA_TOOL_OPTIONS";
	const char *missing = found->has[JAVA_WORD] ? audit : both;
	size_t length = length_of(path, STARTED_MAX_BYTES), by = bytes_of(program), words_bytes = bytes_of(missing) + 1;
	char record[HEAD_MAX_BYTES + sizeof(both) + sizeof(program) + STARTED_MAX_BYTES];
	size_t at = put_head(record, "LE", pid, 0, words_bytes + by, length);

	at = put_bytes(record, at, missing, words_bytes);
	at = put_bytes(record, at, program, by);
	at = put_bytes(record, at, path, length);
	if (!write_once(report_slot, O_RDWR | O_NONBLOCK, record, at))
		lose();
}

enum environment { AS_IT_IS, WITHOUT_WORDS, EMPTIED };

/* How the environment of a new program is to be handed on; tells the agent of one that is not seen there. */
static enum environment judge(const char *path, texts environment, struct looked_at *found)
{
	look_at(environment, found);
	if (!is_in_sight()) {
		if (can_start(path))
			tell_unseen(path);
		for (size_t i = 0; i < WORDS; i++)
			if (found->has[i] && found->entries < ENTRIES_MAX && found->changed_bytes <= CHANGED_MAX_BYTES)
				return WITHOUT_WORDS;
		return AS_IT_IS;
	}
	return found->has[AUDIT_WORD] ? AS_IT_IS : EMPTIED;
}

/* The same where an emptied environment must be told of before the start: nobody comes back to tell the new process's number.
 * `pid`: of the process that it will be; 0 if that is not known. */
static int needs_copy(const char *path, texts environment, struct looked_at *found, unsigned long pid)
{
	enum environment how = judge(path, environment, found);

	if (how == EMPTIED && can_start(path))
		tell_emptied(found, path, pid);
	return how == WITHOUT_WORDS;
}

/* An exec stays in its process. */
static unsigned long own_pid(void)
{
	return (unsigned long)system_call(SYS_getpid, 0, 0, 0, 0);
}

#define COPY_WITHOUT_WORDS(environment, found)                     \
	char *copy[(found).entries + 1], text[(found).changed_bytes]; \
	copy_without_words(environment, &(found), copy, text)

typedef int (*execve_function)(const char *, texts, texts);
typedef int (*execv_function)(const char *, texts);

static int start(enum function function, const char *path, texts arguments, texts environment)
{
	struct looked_at found;

	if (needs_copy(path, environment, &found, own_pid())) {
		COPY_WITHOUT_WORDS(environment, found);
		return ((execve_function)real[function][0])(path, arguments, copy);
	}
	return ((execve_function)real[function][0])(path, arguments, environment);
}

static int our_execve(const char *path, texts arguments, texts environment)
{
	return start(EXECVE, path, arguments, environment);
}

static int our_execvpe(const char *file, texts arguments, texts environment)
{
	return start(EXECVPE, file, arguments, environment);
}

static int our_execv(const char *path, texts arguments)
{
	return start(EXECVE, path, arguments, *environ_at);
}

static int our_execvp(const char *file, texts arguments)
{
	return start(EXECVPE, file, arguments, *environ_at);
}

/* Counts the arguments of execl and its kin, with the 0 at their end. */
static size_t count_arguments(const char *first, va_list list)
{
	size_t count = 1;

	for (const char *word = first; word; word = __builtin_va_arg(list, const char *))
		count++;
	return count;
}

#define ARGUMENTS_OF(first)                                                                  \
	va_list list, again;                                                                     \
	__builtin_va_start(list, first);                                                         \
	__builtin_va_copy(again, list);                                                          \
	size_t count = count_arguments(first, list);                                             \
	const char *arguments[count];                                                            \
	arguments[0] = first;                                                                    \
	for (size_t i = 1; i < count; i++)                                                       \
		((const char *volatile *)arguments)[i] = __builtin_va_arg(again, const char *)

static int our_execl(const char *path, const char *first, ...)
{
	ARGUMENTS_OF(first);
	return start(EXECVE, path, (texts)arguments, *environ_at);
}

static int our_execlp(const char *file, const char *first, ...)
{
	ARGUMENTS_OF(first);
	return start(EXECVPE, file, (texts)arguments, *environ_at);
}

static int our_execle(const char *path, const char *first, ...)
{
	ARGUMENTS_OF(first);
	return start(EXECVE, path, (texts)arguments, __builtin_va_arg(again, texts));
}

/* What is started, where no path tells. */
static const char opened_file[] = "a file that it had opened";

static int our_fexecve(int file, texts arguments, texts environment)
{
	struct looked_at found;
	int (*next)(int, texts, texts) = (int (*)(int, texts, texts))real[FEXECVE][0];

	if (needs_copy(opened_file, environment, &found, own_pid())) {
		COPY_WITHOUT_WORDS(environment, found);
		return next(file, arguments, copy);
	}
	return next(file, arguments, environment);
}

static int our_execveat(int directory, const char *path, texts arguments, texts environment, int flags)
{
	struct looked_at found;
	int (*next)(int, const char *, texts, texts, int) = (int (*)(int, const char *, texts, texts, int))real[EXECVEAT][0];
	/* Others begin at a directory that it had opened. */
	int is_plain = !path || path[0] == '/' || (directory == AT_FDCWD && path[0]);

	if (needs_copy(is_plain ? path : opened_file, environment, &found, own_pid())) {
		COPY_WITHOUT_WORDS(environment, found);
		return next(directory, path, arguments, copy, flags);
	}
	return next(directory, path, arguments, environment, flags);
}

typedef int (*spawn_function)(int *, const char *, const void *, const void *, texts, texts);

static int spawn(spawn_function next, int *pid, const char *path, const void *actions, const void *attributes,
		 texts arguments, texts environment)
{
	struct looked_at found;
	enum environment how = judge(path, environment, &found);
	int failed, own = 0;

	if (how == WITHOUT_WORDS) {
		COPY_WITHOUT_WORDS(environment, found);
		return next(pid, path, actions, attributes, arguments, copy);
	}
	if (!pid)
		pid = &own;
	failed = next(pid, path, actions, attributes, arguments, environment);
	if (how == EMPTIED && !failed)
		tell_emptied(&found, path, (unsigned long)*pid);
	return failed;
}

#define SPAWN_OF(name, function, version)                                                                               \
	static int name(int *pid, const char *path, const void *actions, const void *attributes, texts arguments,       \
			texts environment)                                                                              \
	{                                                                                                               \
		return spawn((spawn_function)real[function][version], pid, path, actions, attributes, arguments,        \
			     environment);                                                                              \
	}
SPAWN_OF(our_spawn, SPAWN, 0)
SPAWN_OF(our_older_spawn, SPAWN, 1)
SPAWN_OF(our_spawnp, SPAWNP, 0)
SPAWN_OF(our_older_spawnp, SPAWNP, 1)

/* system() and popen() hand `environ` on by themselves: in another root directory it gets another list for good, in memory
 * of its own. Both fork, so no parent shares it. */
static void before_shell(void)
{
	static const char shell[] = "/bin/sh";
	struct looked_at found;
	texts environment = *environ_at;
	char **copy;

	if (!needs_copy(shell, environment, &found, 0))
		return;
	copy = map_memory((found.entries + 1) * sizeof(char *) + found.changed_bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!copy)
		return;
	copy_without_words(environment, &found, copy, (char *)(copy + found.entries + 1));
	*environ_at = copy;
}

static int our_system(const char *command)
{
	if (command)
		before_shell();
	return ((int (*)(const char *))real[SYSTEM][0])(command);
}

#define POPEN_OF(name, version)                                                                     \
	static void *name(const char *command, const char *mode)                                    \
	{                                                                                           \
		before_shell();                                                                     \
		return ((void *(*)(const char *, const char *))real[POPEN][version])(command, mode); \
	}
POPEN_OF(our_popen, 0)
POPEN_OF(our_older_popen, 1)

static unsigned long ours(enum function function, size_t version)
{
#define OURS_OF(function, name, own, older) \
	case function:                      \
		return (unsigned long)(version ? older : own);
	switch (function) {
		START_FUNCTIONS(OURS_OF)
	default:
		return 0;
	}
}

static char ***find_environ(const struct link_map *map)
{
	struct tables tables;
	struct symbol *symbol;

	if (!map || !tables_of(map, &tables) || !find_symbols(&tables, "__environ", &symbol, 1))
		return 0;
	return (char ***)(tables.address + symbol->value);
}

/* Puts ours in front of the functions of the C library, which was just opened beside `main_program`; whether all that it has
 * are called through ours. */
static int watch_starts(const struct link_map *library, const struct link_map *main_program)
{
	struct diverted diverted[FUNCTIONS * VERSIONS_MAX];
	struct tables tables;
	size_t count = 0;
	int has_all = 1;

	/* A program that refers to the variable has it (copy relocation). */
	environ_at = find_environ(main_program);
	if (!environ_at)
		environ_at = find_environ(library);
	if (!environ_at || !tables_of(library, &tables))
		return 0;
	for (enum function function = 0; function < FUNCTIONS; function++) {
		struct symbol *versions[VERSIONS_MAX];
		size_t found = find_symbols(&tables, function_names[function], versions, VERSIONS_MAX);

		/* Those that others are made of must be there, and of two only what has two of ours. */
		if ((function == EXECVE || function == EXECVPE) && found != 1)
			return 0;
		if (found > VERSIONS_MAX || (found > 1 && ours(function, 0) == ours(function, 1))) {
			has_all = 0;
			continue;
		}
		for (size_t version = 0; version < found; version++) {
			real[function][version] = tables.address + versions[version]->value;
			diverted[count].symbol = versions[version];
			diverted[count++].to = ours(function, version);
		}
	}
	return divert(&tables, diverted, count) && has_all;
}

/* What this program starts is not watched. */
static void tell_unwatched(void)
{
	char name[1 + sizeof(program)];
	size_t length = bytes_of(program);

	/* Of no variable, and by whom. */
	name[0] = 0;
	put_bytes(name, 1, program, length);
	report("LE", name, 1 + length, "", 0, "", 0);
}
