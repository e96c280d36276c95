/* SPDX-License-Identifier: Apache-2.0
 * Classes of the boot loader that are in no module: which archive of its class path has them, by the archives' own
 * directories. The loader tells nobody, and asking it would run Java code.
 * It must never trust an archive, nor run outside of the agent's own thread. */
#pragma once

/* Archives that are known, their paths, and their classes; a power of two, twice what is taken. */
#define BOOT_ARCHIVES 64
#define BOOT_PATH_BYTES 512
#define BOOT_SLOTS 65536
/* What stands at an archive's end: a record of 22 bytes and a comment. */
#define ZIP_END_BYTES 22
#define ZIP_TAIL_BYTES (65535 + ZIP_END_BYTES)
#define ZIP_ENTRY_BYTES 46
/* Longest name of an entry that is looked at. */
#define ZIP_NAME_BYTES 2048
/* Looks for archives that were appended later: the least time between two, and how many at most. */
#define BOOT_AGAIN_MS 1000
#define BOOT_LOOKS 64
#define DIRECTORY_BYTES 4096
/* Numbers of places: of those without one, of the runtime image, of these archives, and of code sources. */
enum { PLACE_NOWHERE = 1, PLACE_RUNTIME, PLACE_OF_BOOT, PLACE_OF_CODE = PLACE_OF_BOOT + BOOT_ARCHIVES };

struct boot_archive {
	/* Real path, without a zero byte; none for those that could not be read. */
	size_t length;
	char path[BOOT_PATH_BYTES];
	int is_directory;
};

static struct boot_archive boot_archives[BOOT_ARCHIVES];
static int boot_count, boot_looks;
/* JDK 8's own archive: everything that is in no other. */
static int boot_rest = -1;
static unsigned long long boot_next_ms;
static struct {
	unsigned long long name;
	int archive;
} boot_classes[BOOT_SLOTS];
static int boot_taken;
static unsigned char zip_buffer[ZIP_TAIL_BYTES];

/* FNV-1a. */
static unsigned long long hash_of(const char *name, size_t length)
{
	unsigned long long hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3ull;
	return hash ? hash : 1;
}

static size_t boot_slot(unsigned long long name)
{
	size_t slot = (size_t)(name ^ name >> 32) % BOOT_SLOTS;

	while (boot_classes[slot].name && boot_classes[slot].name != name)
		slot = (slot + 1) % BOOT_SLOTS;
	return slot;
}

static unsigned long little(const unsigned char *at, int bytes)
{
	unsigned long value = 0;

	while (bytes--)
		value = value << 8 | at[bytes];
	return value;
}

/* Reads until there is no more or no room. */
static size_t read_at(int file, unsigned long at, unsigned char *to, size_t room)
{
	size_t length = 0;

	if (system_call(SYS_lseek, file, (long)at, SEEK_SET, 0) != (long)at)
		return 0;
	while (length < room) {
		long got = system_call(SYS_read, file, (long)(to + length), (long)(room - length), 0);

		if (got == -EINTR)
			continue;
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	return length;
}

/* Where the list of entries begins, and its length; 0 if this is no archive that can be read. */
static int zip_list(int file, unsigned long *at, unsigned long *length)
{
	long size = system_call(SYS_lseek, file, 0, SEEK_END, 0);
	size_t wanted = size < ZIP_TAIL_BYTES ? (size_t)(size > 0 ? size : 0) : ZIP_TAIL_BYTES;
	size_t got = wanted ? read_at(file, (unsigned long)size - wanted, zip_buffer, wanted) : 0;

	for (size_t i = got; i >= ZIP_END_BYTES; i--) {
		const unsigned char *end = zip_buffer + i - ZIP_END_BYTES;
		unsigned long place = (unsigned long)size - got + (i - ZIP_END_BYTES);

		if (little(end, 4) != 0x06054b50)
			continue;
		*length = little(end + 12, 4);
		/* Something may stand before the archive. Larger ones have another record: none is on a boot path. */
		*at = place - *length;
		return *length <= place && *length != 0xffffffff;
	}
	return 0;
}

static void zip_classes(int file, int archive)
{
	static const char ending[] = ".class";
	unsigned long at, rest;
	size_t from = 0, have = 0;

	if (!zip_list(file, &at, &rest))
		return;
	while (rest >= ZIP_ENTRY_BYTES) {
		const unsigned char *entry;
		unsigned long name, all;

		if (boot_taken == BOOT_SLOTS / 2)
			return;
		if (have - from < ZIP_ENTRY_BYTES + ZIP_NAME_BYTES) {
			have = read_at(file, at, zip_buffer, sizeof(zip_buffer));
			from = 0;
		}
		entry = zip_buffer + from;
		if (have - from < ZIP_ENTRY_BYTES || little(entry, 4) != 0x02014b50)
			return;
		name = little(entry + 28, 2);
		all = ZIP_ENTRY_BYTES + name + little(entry + 30, 2) + little(entry + 32, 2);
		if (have - from >= ZIP_ENTRY_BYTES + name && name > sizeof(ending) &&
		    same((const char *)entry + ZIP_ENTRY_BYTES + name - (sizeof(ending) - 1), ending,
			 sizeof(ending) - 1)) {
			unsigned long long hash = hash_of((const char *)entry + ZIP_ENTRY_BYTES,
							  name - (sizeof(ending) - 1));
			size_t slot = boot_slot(hash);

			/* The first archive of the path has it. */
			if (!boot_classes[slot].name) {
				boot_classes[slot].name = hash;
				boot_classes[slot].archive = archive;
				boot_taken++;
			}
		}
		if (all > rest)
			return;
		at += all;
		rest -= all;
		from = all < have - from ? from + all : have;
	}
}

/* Takes an archive or directory, unless it is known or there is none. */
static void boot_add(const char *path)
{
	struct boot_archive *archive = &boot_archives[boot_count];
	int file;

	if (boot_count == BOOT_ARCHIVES)
		return;
	archive->length = real_path(path, archive->path, sizeof(archive->path) - 1);
	if (!archive->length)
		return;
	for (int i = 0; i < boot_count; i++)
		if (boot_archives[i].length == archive->length &&
		    same(boot_archives[i].path, archive->path, archive->length))
			return;
	archive->path[archive->length] = 0;
	file = (int)system_call(SYS_openat, AT_FDCWD, (long)archive->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (file < 0)
		return;
	/* Reading a directory fails. */
	archive->is_directory = system_call(SYS_read, file, (long)zip_buffer, 1, 0) == -EISDIR;
	if (ends_with(archive->path, archive->length, "/jre/lib/rt.jar"))
		boot_rest = boot_count;
	else if (!archive->is_directory)
		zip_classes(file, boot_count);
	system_call(SYS_close, file, 0, 0, 0);
	boot_count++;
}

/* Archives on a path with colons. */
static void boot_add_all(const char *path)
{
	char one[BOOT_PATH_BYTES];
	size_t length = 0;

	for (size_t i = 0;; i++) {
		if (path[i] && path[i] != ':') {
			if (length < sizeof(one))
				one[length++] = path[i];
			continue;
		}
		if (length && length < sizeof(one)) {
			one[length] = 0;
			boot_add(one);
		}
		length = 0;
		if (!path[i])
			return;
	}
}

/* Agents append archives while the JVM runs, which holds them open from then on. */
static void boot_add_open(void)
{
	char entries[DIRECTORY_BYTES], link[32] = "/proc/self/fd/", path[BOOT_PATH_BYTES];
	int folder = (int)system_call(SYS_openat, AT_FDCWD, (long)"/proc/self/fd", O_RDONLY | O_CLOEXEC, 0);
	long got;

	if (folder < 0)
		return;
	while ((got = system_call(SYS_getdents64, folder, (long)entries, sizeof(entries), 0)) > 0) {
		for (long at = 0; at + 19 < got;) {
			const char *entry = entries + at;
			size_t length = length_of(entry + 19);
			long to;

			at += (long)little((const unsigned char *)entry + 16, 2);
			if (length >= 16)
				continue;
			link[put_bytes(link, 14, entry + 19, length)] = 0;
			to = system_call(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, sizeof(path) - 1);
			if (to <= 0 || !ends_with(path, (size_t)to, ".jar"))
				continue;
			path[to] = 0;
			boot_add(path);
		}
	}
	system_call(SYS_close, folder, 0, 0, 0);
}

static int boot_find(const char *name, size_t length)
{
	size_t slot = boot_slot(hash_of(name, length));

	if (boot_classes[slot].name)
		return boot_classes[slot].archive;
	for (int i = 0; i < boot_count; i++) {
		char path[REPORT_MAX_BYTES];
		size_t at = boot_archives[i].length;

		if (!boot_archives[i].is_directory || at + 1 + length + sizeof(".class") > sizeof(path))
			continue;
		put_bytes(path, 0, boot_archives[i].path, at);
		path[at++] = '/';
		at = put_bytes(path, at, name, length);
		put_bytes(path, at, ".class", sizeof(".class"));
		if (is_there(path))
			return i;
	}
	return -1;
}

/* Packages of JDK 8's rt.jar. Classes of others that are in no known archive have no place. */
static int is_of_the_rest(const char *name, size_t length)
{
	static const char *const prefixes[] = { "java/", "javax/", "sun/", "sunw/", "com/sun/", "jdk/", "oracle/",
						"com/oracle/", "org/ietf/", "org/jcp/", "org/omg/", "org/w3c/", "org/xml/" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts_with(name, length, prefixes[i]))
			return 1;
	return 0;
}

/* The archive's real path behind an empty URL; or 0. It is valid until the next call. */
static const struct place *boot_place(const char *name, size_t length, int may_be_rest)
{
	static const char url[] = "file:/";
	static struct place place;
	int archive = boot_find(name, length);
	size_t at;

	if (archive < 0 && may_be_rest && is_of_the_rest(name, length))
		archive = boot_rest;
	if (archive < 0 && boot_looks < BOOT_LOOKS && now_ms() >= boot_next_ms) {
		boot_looks++;
		boot_next_ms = now_ms() + BOOT_AGAIN_MS;
		boot_add_open();
		archive = boot_find(name, length);
	}
	if (archive < 0)
		return 0;
	at = put_bytes(place.text, 0, url, sizeof(url));
	place.length = put_bytes(place.text, at, boot_archives[archive].path, boot_archives[archive].length);
	place.number = PLACE_OF_BOOT + (unsigned long)archive;
	return &place;
}

/* The boot loader's class path: before JDK 9 all of it, then what was appended to the modules. */
static void add_boot_path(interface tools)
{
	static const char *const names[] = { "sun.boot.class.path", "jdk.boot.class.path.append" };
	char *value;

	for (int i = 0; i < 2; i++) {
		value = 0;
		if (JVMTI(tools, JVMTI_GET_SYSTEM_PROPERTY, property_fn)(tools, names[i], &value) || !value)
			continue;
		boot_add_all(value);
		JVMTI(tools, JVMTI_DEALLOCATE, deallocate_fn)(tools, value);
	}
}
