/* SPDX-License-Identifier: Apache-2.0
 * Reports to the agent. One write has one or several, and at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
 *     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
 * kind:
 *     JH hello (name: version of the JVM, '\n', "start" or "attach"; path: its runtime image)
 *     JC classes of one place (name: internal names, each ended by ';'; path: URL of the place, and behind a zero byte the
 *        real path of the file or directory that holds it; or none: one of each Java package, from nobody can tell where)
 *     JS all classes loaded before were told
 *     JG counts of classes (name: hidden ' ' without a place ' ' with one, and ' ' unloaded where the JVM tells that)
 *     JF a failure (name: why)
 *     JE the JVM ends and everything was told
 * Only the agent's own thread may wait here; the one that starts it writes what the FIFO takes at once. */
#pragma once

#define REPORT_MAX_BYTES 4096
/* Room for the head: the kind, five numbers, and what is between them. */
#define HEAD_MAX_BYTES 128
#define BODY_MAX_BYTES (REPORT_MAX_BYTES - HEAD_MAX_BYTES)
/* Places whose classes are gathered at the same time. */
#define BATCHES 16
/* Longest wait for room in the FIFO; after that the report is lost. */
#define WRITE_MAX_MS 30000
#define WRITE_PAUSE_MS 2
#define STAT_BYTES 256

/* Longest place. */
#define PLACE_MAX_BYTES 2048

/* Where classes came from: the URL, and behind a zero byte the real path. */
struct place {
	/* The same number means the same place. */
	unsigned long number;
	size_t length;
	char text[PLACE_MAX_BYTES];
};

struct batch {
	unsigned long place;
	size_t place_length;
	size_t names_length;
	char text[PLACE_MAX_BYTES];
	char names[BODY_MAX_BYTES];
};

static int fifo = -1;
static unsigned long fifo_device, fifo_inode;
/* The agent is gone: nothing is to be told any more. */
static int nobody_reads;
static unsigned long lost;
/* By when everything must have been written; 0 while the JVM lives. */
static unsigned long long deadline_ms;
/* A deadline that has always passed. */
#define AT_ONCE 1
/* Hello was said. */
static int greeted;
/* What the next write has, how many reports that is, and the losses that they tell. */
static char record[REPORT_MAX_BYTES];
static size_t record_length;
static unsigned long record_reports, record_lost;
static struct batch batches[BATCHES];
/* The one that took the last class, and the next one to be emptied where none is free. */
static struct batch *last_batch = batches;
static int next_batch;
static int never;

static int is_our_fifo(unsigned long *device, unsigned long *inode)
{
	unsigned long words[STAT_BYTES / sizeof(unsigned long)];

	if (system_call(SYS_fstat, fifo, (long)words, 0, 0) ||
	    (*(unsigned int *)((char *)words + STAT_MODE_AT) & S_IFMT) != S_IFIFO)
		return 0;
	*device = words[0];
	*inode = words[STAT_INODE_AT / sizeof(words[0])];
	return 1;
}

static int open_fifo(const char *path)
{
	/* Without a reader it fails: then nobody wants to know. */
	fifo = (int)system_call(SYS_openat, AT_FDCWD, (long)path, O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (fifo < 0)
		return 0;
	if (is_our_fifo(&fifo_device, &fifo_inode))
		return 1;
	system_call(SYS_close, fifo, 0, 0, 0);
	fifo = -1;
	return 0;
}

/* Whether the FIFO took it. */
static int write_whole(const char *bytes, size_t length)
{
	unsigned long long until = 0;
	unsigned long device, inode;

	for (;;) {
		long written;

		/* The application may have closed the descriptor, and opened a file under its number. */
		if (!is_our_fifo(&device, &inode) || device != fifo_device || inode != fifo_inode) {
			nobody_reads = 1;
			return 0;
		}
		written = system_call(SYS_write, fifo, (long)bytes, (long)length, 0);
		if (written == (long)length)
			return 1;
		if (written != -EAGAIN && written != -EINTR) {
			nobody_reads = 1;
			return 0;
		}
		if (!until)
			until = now_ms() + WRITE_MAX_MS;
		if (deadline_ms && deadline_ms < until)
			until = deadline_ms;
		if (now_ms() >= until)
			return 0;
		wait_while(&never, 0, WRITE_PAUSE_MS);
	}
}

static void send(void)
{
	if (record_length && !write_whole(record, record_length))
		lost += record_lost + record_reports;
	record_length = 0;
	record_reports = 0;
	record_lost = 0;
}

/* A report for the next write. */
static void put_report(const char *kind, const char *name, size_t name_length, const char *path, size_t path_length)
{
	size_t at;

	if (nobody_reads)
		return;
	if (name_length + path_length > BODY_MAX_BYTES) {
		lost++;
		return;
	}
	if (record_length + HEAD_MAX_BYTES + name_length + path_length > REPORT_MAX_BYTES)
		send();
	at = record_length;
	record[at++] = 0x1e;
	record[at++] = kind[0];
	record[at++] = kind[1];
	at = put_number(record, at, (unsigned long)system_call(SYS_getpid, 0, 0, 0, 0));
	at = put_number(record, at, lost);
	at = put_bytes(record, at, " -", 2);
	at = put_number(record, at, name_length);
	at = put_number(record, at, path_length);
	record[at++] = '\n';
	at = put_bytes(record, at, name, name_length);
	record_length = put_bytes(record, at, path, path_length);
	record_reports++;
	record_lost += lost;
	lost = 0;
}

static void report(const char *kind, const char *name, size_t name_length, const char *path, size_t path_length)
{
	put_report(kind, name, name_length, path, path_length);
	send();
}

/* The real path of a file, as this process sees it; its length, or 0. */
static size_t real_path(const char *path, char *real, size_t room)
{
	char link[32] = "/proc/self/fd/";
	long file = system_call(SYS_openat, AT_FDCWD, (long)path, O_PATH | O_CLOEXEC, 0);
	size_t at = 13;
	long length;

	if (file < 0)
		return 0;
	/* put_number begins with a space. */
	at = put_number(link, at, (unsigned long)file);
	link[13] = '/';
	link[at] = 0;
	length = system_call(SYS_readlinkat, AT_FDCWD, (long)link, (long)real, (long)room);
	system_call(SYS_close, file, 0, 0, 0);
	return length > 0 && (size_t)length < room && real[0] == '/' ? (size_t)length : 0;
}

static int is_there(const char *path)
{
	long file = system_call(SYS_openat, AT_FDCWD, (long)path, O_PATH | O_CLOEXEC, 0);

	if (file < 0)
		return 0;
	system_call(SYS_close, file, 0, 0, 0);
	return 1;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit |= 0x20;
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The path of the outermost file that a URL names, decoded (RFC 3986) or as it stands. */
static int path_in(const char *url, size_t length, char *path, size_t room, int decode)
{
	static const char *const schemes[] = { "file:", "nested:" };
	size_t from = length, to = 0;

	for (size_t i = 0; i < length && from == length; i++)
		for (int s = 0; s < 2; s++)
			if (starts_with(url + i, length - i, schemes[s]))
				from = i + length_of(schemes[s]);
	while (from + 1 < length && url[from] == '/' && url[from + 1] == '/')
		from++;
	for (; from < length && to + 1 < room; from++) {
		int high = from + 2 < length ? hex_digit(url[from + 1]) : -1;
		int low = from + 2 < length ? hex_digit(url[from + 2]) : -1;

		/* An entry of an archive begins, in one of three spellings. */
		if (from + 1 < length && ((url[from] == '!' && url[from + 1] == '/') ||
					  (url[from] == '/' && url[from + 1] == '!') ||
					  (url[from] == '*' && url[from + 1] == '/')))
			break;
		if (decode && url[from] == '%' && high >= 0 && low >= 0) {
			path[to++] = (char)(high << 4 | low);
			from += 2;
		} else {
			path[to++] = url[from];
		}
	}
	path[to] = 0;
	return to > 0 && path[0] == '/' && to + 1 < room;
}

/* Appends a zero byte and the real path to a place, if there is one. */
static size_t put_real_path(char *place, size_t length, size_t room)
{
	char path[REPORT_MAX_BYTES], real[REPORT_MAX_BYTES];
	size_t real_length = 0;

	for (int decode = 1; decode >= 0 && !real_length; decode--)
		if (path_in(place, length, path, sizeof(path), decode))
			real_length = real_path(path, real, sizeof(real));
	if (!real_length || length + 1 + real_length > room)
		return length;
	place[length++] = 0;
	return put_bytes(place, length, real, real_length);
}

static void flush_batch(struct batch *batch)
{
	if (batch->names_length)
		put_report("JC", batch->names, batch->names_length, batch->text, batch->place_length);
	batch->names_length = 0;
	batch->place_length = 0;
}

static void flush_batches(void)
{
	for (int i = 0; i < BATCHES; i++)
		flush_batch(&batches[i]);
	send();
}

static int is_of(const struct batch *batch, const struct place *place)
{
	return batch->names_length && batch->place == place->number;
}

static struct batch *batch_of(const struct place *place)
{
	struct batch *batch = 0;

	/* Classes of one place come in a row. */
	if (is_of(last_batch, place))
		return last_batch;
	for (int i = 0; i < BATCHES; i++) {
		if (is_of(&batches[i], place))
			return &batches[i];
		if (!batch && !batches[i].names_length)
			batch = &batches[i];
	}
	if (!batch) {
		batch = &batches[next_batch];
		next_batch = (next_batch + 1) % BATCHES;
		flush_batch(batch);
	}
	return batch;
}

/* Adds a class to the batch of its place. */
static void tell(const char *name, size_t name_length, const struct place *place)
{
	struct batch *batch;

	if (name_length + 1 + place->length > BODY_MAX_BYTES) {
		lost++;
		return;
	}
	batch = batch_of(place);
	if (batch->names_length + name_length + 1 + place->length > BODY_MAX_BYTES)
		flush_batch(batch);
	if (!batch->names_length) {
		batch->place = place->number;
		batch->place_length = put_bytes(batch->text, 0, place->text, place->length);
	}
	batch->names_length = put_bytes(batch->names, batch->names_length, name, name_length);
	batch->names[batch->names_length++] = ';';
	last_batch = batch;
}

static void fail(const char *why)
{
	report("JF", why, length_of(why), "", 0);
}
