/* SPDX-License-Identifier: Apache-2.0
 * Functions of the C library that are to be called through ours: their entries in its table of symbols, in this process's
 * memory, from before anything is bound to them. So whoever calls or looks them up gets ours, by whatever kind of relocation
 * (la_symbind hears of those of procedure linkage tables only; infra/adr/audit-exec.md).
 * It must never write where there could be code, nor leave the table writable. */
#pragma once

#define DT_PLTRELSZ 2
#define DT_STRTAB 5
#define DT_SYMTAB 6
#define DT_STRSZ 10
#define DT_JMPREL 23
#define DT_GNU_HASH 0x6ffffef5
#define AT_PAGESZ 6

#if defined(__x86_64__)
#define SYS_mprotect 10
#elif defined(__i386__)
#define SYS_mprotect 125
#else
#define SYS_mprotect 226
#endif

/* Of elf(5), for 64 and for 32 bits. */
struct dynamic {
	long tag;
	unsigned long value;
};
struct symbol {
	unsigned int name;
#if defined(__i386__)
	unsigned int value;
	unsigned int size;
#endif
	unsigned char info;
	unsigned char other;
	unsigned short section;
#if !defined(__i386__)
	unsigned long value;
	unsigned long size;
#endif
};

/* The begin of struct link_map of link.h. */
struct link_map {
	unsigned long address;
	const char *name;
	const struct dynamic *dynamic;
};

struct tables {
	unsigned long address;
	struct symbol *symbols;
	const char *names;
	size_t names_bytes;
	const unsigned int *hash;
	/* No code lies before this: the end of the last table that linkers put in front of it. */
	unsigned long data_until;
};

/* The linker may have put addresses there already. */
static unsigned long loaded(const struct link_map *map, unsigned long value)
{
	return value < map->address ? value + map->address : value;
}

static int tables_of(const struct link_map *map, struct tables *tables)
{
	unsigned long symbols = 0, names = 0, bytes = 0, hash = 0, jumps = 0, jumps_bytes = 0, jumps_until;

	for (const struct dynamic *entry = map->dynamic; entry && entry->tag; entry++) {
		if (entry->tag == DT_SYMTAB)
			symbols = entry->value;
		else if (entry->tag == DT_STRTAB)
			names = entry->value;
		else if (entry->tag == DT_STRSZ)
			bytes = entry->value;
		else if (entry->tag == DT_GNU_HASH)
			hash = entry->value;
		else if (entry->tag == DT_JMPREL)
			jumps = entry->value;
		else if (entry->tag == DT_PLTRELSZ)
			jumps_bytes = entry->value;
	}
	if (!symbols || !names || !bytes || !hash)
		return 0;
	tables->address = map->address;
	tables->symbols = (struct symbol *)loaded(map, symbols);
	tables->names = (const char *)loaded(map, names);
	tables->names_bytes = bytes;
	tables->hash = (const unsigned int *)loaded(map, hash);
	tables->data_until = (unsigned long)tables->names + bytes;
	/* The relocations of the procedure linkage table, which is the first code that comes. */
	jumps_until = jumps ? loaded(map, jumps) + jumps_bytes : 0;
	if (jumps_until > tables->data_until)
		tables->data_until = jumps_until;
	return 1;
}

/* The symbols of one name, one for each version; how many there are, even if that is more than `max`. */
static size_t find_symbols(const struct tables *tables, const char *name, struct symbol **found, size_t max)
{
	const unsigned int buckets = tables->hash[0], first = tables->hash[1], bloom_words = tables->hash[2];
	const unsigned int *bucket = tables->hash + 4 + bloom_words * (sizeof(long) / sizeof(int));
	const unsigned int *chain = bucket + buckets;
	unsigned int wanted = 5381, index;
	size_t count = 0;

	for (const char *letter = name; *letter; letter++)
		wanted = wanted * 33 + (unsigned char)*letter;
	index = buckets ? bucket[wanted % buckets] : 0;
	if (index < first || !index)
		return 0;
	for (;; index++) {
		struct symbol *symbol = &tables->symbols[index];
		unsigned int hash = chain[index - first];

		if ((hash | 1) == (wanted | 1) && symbol->section && symbol->name < tables->names_bytes) {
			const char *own = tables->names + symbol->name;
			size_t at = 0;

			while (own[at] && own[at] == name[at])
				at++;
			if (own[at] == name[at]) {
				if (count < max)
					found[count] = symbol;
				count++;
			}
		}
		if (hash & 1)
			return count;
	}
}

static unsigned long page_size(void)
{
#if defined(__aarch64__)
	unsigned long auxiliary[64];
	long file = system_call(SYS_openat, AT_FDCWD, (long)"/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);
	long got = -1;

	if (file < 0)
		return 0;
	got = system_call(SYS_read, file, (long)auxiliary, sizeof(auxiliary), 0);
	system_call(SYS_close, file, 0, 0, 0);
	for (long i = 0; i + 1 < got / (long)sizeof(long); i += 2)
		if (auxiliary[i] == AT_PAGESZ)
			return auxiliary[i + 1];
	return 0;
#else
	return 4096;
#endif
}

struct diverted {
	struct symbol *symbol;
	unsigned long to;
};

/* Whether the symbols are changed: all, or none. */
static int divert(const struct tables *tables, const struct diverted *diverted, size_t count)
{
	unsigned long size = page_size(), from = ~0ul, until = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned long at = (unsigned long)diverted[i].symbol;

		from = at < from ? at : from;
		until = at + sizeof(struct symbol) > until ? at + sizeof(struct symbol) : until;
	}
	if (!count || !size)
		return 0;
	from &= ~(size - 1);
	until = (until + size - 1) & ~(size - 1);
	/* In older layouts one segment holds these tables and code, which comes after them: what lies before their end can lose
	 * the right to be executed. */
	if (from < tables->address || until > tables->data_until)
		return 0;
	if (system_call(SYS_mprotect, (long)from, (long)(until - from), PROT_READ | PROT_WRITE, 0))
		return 0;
	for (size_t i = 0; i < count; i++)
		diverted[i].symbol->value = (__typeof__(diverted[i].symbol->value))(diverted[i].to - tables->address);
	system_call(SYS_mprotect, (long)from, (long)(until - from), PROT_READ, 0);
	return 1;
}
