/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * What the programs and user space share: src/ebpf/wire.rs mirrors every struct, and a test compares
 * their sizes with the object's BTF. */
#pragma once

/* Bounds, in entries. */
#define MAX_TRACKED 65536
#define MAX_WORKLOADS 4096
#define MAX_SEEN 131072
#define MAX_PROGRAMS 256
#define MAX_VERDICTS 8192
#define MAX_COMPONENTS 128

/* Bounds, in bytes; powers of two where they serve as masks. */
#define PATH_BYTES 4096
#define NAME_BYTES 256
#define PATH_SPACE 8192
#define ARGUMENT_BYTES 1024
#define HASHED_ARGUMENT_BYTES 512
#define EVENT_SPACE 16384
#define CGROUP_NAME 128
#define NOTE_BYTES 8188

enum { EVENT_EXEC = 1, EVENT_MAP = 2, EVENT_OPEN = 3, EVENT_EMPTY = 4 };

enum {
	EVENT_OTHER_MOUNT = 1,	 /* below a mount point other than "/" */
	EVENT_FOREIGN_MOUNT = 2, /* the mount is none of the process's mount namespace */
	EVENT_DETACHED = 4,	 /* the walk met a tree that is mounted nowhere */
	EVENT_TRUNCATED = 8,	 /* deeper or longer than the bounds */
	EVENT_RESYNC = 16,	 /* found by looking, not when it happened */
	EVENT_OF_PROCESS = 32,	 /* told of each process, not once per key */
	/* Interpreters that the process has mapped as libraries. */
	EVENT_CARRIES_PYTHON = 256,
	EVENT_CARRIES_NODE = 512,
	EVENT_CARRIES_RUBY = 1024,
	EVENT_CARRIES_PHP = 2048,
};

enum { PROGRAM_PLAIN = 0, PROGRAM_IGNORED = 1, PROGRAM_JUDGED = 2 };

/* Class of reader; with READER_PROVISIONAL set, the low bits are the command line's hash. */
#define READER_PLAIN 0u
#define READER_PYTHON 1u
#define READER_IGNORED 2u
#define READER_NODE 3u
#define READER_RUBY 4u
#define READER_PHP 5u
#define READER_JAVA 6u
#define READER_INSTALLER 8u /* reads do not count, nor do those of what it executes */
#define READER_PROVISIONAL 0x80000000u

enum { WORKLOAD_FROM_FIRST_EXEC = 1, WORKLOAD_IGNORED = 2, WORKLOAD_TREE = 4 };
enum {
	TRACKED_CONTAINER = 1,
	TRACKED_STARTED_PYTHON = 2, /* a program that carries Python has read the first of its modules */
};
enum { COUNTER_LOST = 0, COUNTER_UNTRACKED = 1, COUNTER_COUNT = 2 };
enum {
	SCRATCH_EXEC,
	SCRATCH_SYSCALL,
	SCRATCH_INTERPRETER,
	SCRATCH_IO_URING,
	SCRATCH_EXIT,
	SCRATCH_RESYNC,
	SCRATCH_RESYNC_FILES,
	SCRATCH_RESYNC_EXECUTABLE,
	SCRATCH_COUNT,
};

struct settings {
	__u64 epoch_ns;		 /* a key is reported once per this span */
	__u32 host_mount_ns;	 /* inode of the host's mount namespace */
	__s32 cgroup_controller; /* index of the v1 controller that names containers; -1: cgroup v2 */
	__u32 watch_containers;
	__u32 padding;
};

struct tracked {
	__u64 workload;
	__u64 exec_id;	    /* the program image this process runs */
	__u64 command_hash; /* of its command line, while the reader is provisional */
	__u32 reader;
	__u32 mount_ns;
	__u32 flags;
	__u32 carries; /* EVENT_CARRIES_* */
};

struct workload {
	__u64 first_exec_ns; /* since boot */
	__u64 lost;	     /* events that the ring buffer refused */
	__s64 processes;
	__u32 flags;
	__u32 mount_ns;
	__u32 first_pid;
	__u32 padding;
	char cgroup_name[CGROUP_NAME];
	char cgroup_parent[CGROUP_NAME];
};

/* What an agent has learned of a workload, for the agent after it. Only user space reads it. */
struct note {
	__u32 length;
	char text[NOTE_BYTES];
};

struct seen_key {
	__u64 workload;
	__u64 inode;
	__u64 parent_inode;
	__u64 name; /* hash of name and parent; for an exec mixed with the parent's image */
	__u64 mount;
	__u64 change_time;
	__u32 kind;
	__u32 reader;
};

struct seen {
	__u64 time_ns;
	__u64 exec_id;
};

struct program_name {
	char name[16];
};

/* Fixed part, then the path's components from the file up to the root, each ended by NUL, then the
 * arguments. */
struct event {
	__u32 kind;
	__u32 flags;
	__u32 tgid;
	__u32 parent_tgid;
	__u32 reader;
	__u32 device;
	__u32 mount_ns;
	__u16 path_bytes;
	__u16 argument_bytes;
	__u64 workload;
	__u64 time_ns; /* since boot */
	__u64 exec_id;
	__u64 parent_exec_id;
	__u64 command_hash;
	__u64 inode;
	__u64 parent_inode;
	__u64 change_time;
	char comm[16];
	char bytes[PATH_SPACE + ARGUMENT_BYTES];
};
#define EVENT_HEADER (sizeof(struct event) - PATH_SPACE - ARGUMENT_BYTES)

struct scratch {
	struct event event;
	char arguments[ARGUMENT_BYTES];
	__u32 argument_bytes;
	struct workload workload;
};
