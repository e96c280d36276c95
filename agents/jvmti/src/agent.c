/* SPDX-License-Identifier: Apache-2.0
 * JVMTI agent: tells where each class of a JVM came from, from the JVM's start or from the attach on.
 * It must never wait in a callback, run Java code but in its own thread, nor make the JVM fail or say anything.
 *
 * A callback puts a reference to the class into a queue; the agent's own thread, which holds no lock, asks for names and
 * places. What was loaded before, and what the queue could not take, is found by looking through all loaded classes.
 * No object is tagged: that would change the identity hashes that an application may print. */

#include "jvm.h"
#include "kernel.h"
#include "report.h"
#include "boot.h"
#include "place.h"
#include "perf_data.h"
#include "queue.h"

/* After the first class of a burst, so that one report carries many. */
#define GATHER_MS 100
/* Local references announced for a look through all classes; there can be more. */
#define LOOK_LOCALS 65535
/* Longest sleep of the agent's thread. */
#define IDLE_MS 60000
/* Longest time that the JVM's end waits for what is still to be told. */
#define DEATH_MAX_MS 2000
/* All loaded classes are told again this often, since they are in use. */
#define EPOCH_MS 3600000ull
#define PATH_MAX_BYTES 4096
/* Java packages of classes without a place that are remembered, so that few are told twice. */
#define TOLD_PACKAGES 1024
/* Least time between two reports of counts. */
#define COUNTS_MS 1000

/* Classes that found no room in the queue. */
static unsigned long dropped;
static int sleeping, dying, done;
static interface tools;
/* Classes whose local references are in the frame that is open; 0 = none is. */
static int framed;
static int attached;
/* The JVM is still coming up, and gives no tool interface to who attaches: to be tried again. */
static int too_early;
/* Classes by how they were told: not at all, by their Java package, with their place. */
static unsigned long hidden, generated, placed, counts_told;
/* Unloaded before the agent came; what the JVM counts is since its start. */
static unsigned long unloaded_before;

static void rouse(void)
{
	if (__atomic_exchange_n(&sleeping, 0, __ATOMIC_SEQ_CST))
		wake(&sleeping);
}

/* In the thread that loads the class, which holds its loader's lock. */
static void on_class_load(interface ti, interface jni, jobject thread, jobject class)
{
	jobject kept = JNI(jni, JNI_NEW_GLOBAL_REF, object_fn)(jni, class);

	(void)ti;
	(void)thread;
	if (!kept || !push(kept)) {
		if (kept)
			JNI(jni, JNI_DELETE_GLOBAL_REF, drop_fn)(jni, kept);
		__atomic_add_fetch(&dropped, 1, __ATOMIC_SEQ_CST);
	}
	rouse();
}

/* Hidden and anonymous classes: "a/B.0x12" since JDK 15, "a/B/12" before. */
static int is_hidden(const char *name, size_t length)
{
	size_t i = length;

	while (i && name[i - 1] >= '0' && name[i - 1] <= '9')
		i--;
	return has_byte(name, length, '.') || (i < length && i && name[i - 1] == '/');
}

/* Nobody can tell from where: generated, or from any archive with its Java package. One class of each is told. */
static void without_place(const char *name, size_t length)
{
	static unsigned long long told[TOLD_PACKAGES];
	size_t package = length;
	unsigned long long hash;

	generated++;
	if (is_of_the_jdk(name, length))
		return;
	while (package && name[package - 1] != '/')
		package--;
	hash = hash_of(name, package);
	if (told[hash % TOLD_PACKAGES] == hash)
		return;
	told[hash % TOLD_PACKAGES] = hash;
	tell(name, length, &nowhere);
}

static void tell_name(interface jni, jobject class, const char *name, size_t length)
{
	const struct place *place = 0;

	if (is_hidden(name, length)) {
		hidden++;
		return;
	}
	switch (place_of(tools, jni, class, name, length, &place)) {
	case FOUND_PLACE:
		placed++;
		tell(name, length, place);
		break;
	case FOUND_NONE:
		without_place(name, length);
		break;
	case FOUND_TOO_LONG:
		lost++;
		break;
	}
}

/* Gives back the local references of the classes that were told. */
static void end_frame(interface jni)
{
	if (framed)
		JNI(jni, JNI_POP_LOCAL_FRAME, pop_fn)(jni, 0);
	framed = 0;
}

/* Whether there is room for another class's local references. */
static int has_frame(interface jni)
{
	if (framed == FRAME_CLASSES)
		end_frame(jni);
	if (!framed && JNI(jni, JNI_PUSH_LOCAL_FRAME, push_fn)(jni, FRAME_CLASSES * LOCALS_MAX)) {
		threw(jni);
		return 0;
	}
	framed++;
	return 1;
}

/* Leaves a frame of local references behind, for [`end_frame`]. */
static void tell_class(interface jni, jobject class)
{
	char *signature = 0;
	size_t length;

	if (JVMTI(tools, JVMTI_GET_CLASS_SIGNATURE, signature_fn)(tools, class, &signature, 0) || !signature) {
		lost++;
		return;
	}
	length = length_of(signature);
	/* "La/B;"; the names of primitive types and arrays are of other forms. */
	if (length > 2 && signature[0] == 'L') {
		if (has_frame(jni))
			tell_name(jni, class, signature + 1, length - 2);
		else
			lost++;
	}
	JVMTI(tools, JVMTI_DEALLOCATE, deallocate_fn)(tools, signature);
}

/* Tells all loaded classes; `again`: they were counted already. */
static void look(interface jni, int again)
{
	unsigned long hidden_before = hidden, generated_before = generated, placed_before = placed;
	jobject *classes = 0;
	jint count = 0;

	if (JNI(jni, JNI_PUSH_LOCAL_FRAME, push_fn)(jni, LOOK_LOCALS)) {
		threw(jni);
		lost++;
		return;
	}
	if (!JVMTI(tools, JVMTI_GET_LOADED_CLASSES, list_fn)(tools, &count, &classes)) {
		for (jint i = 0; i < count && !nobody_reads; i++)
			tell_class(jni, classes[i]);
		end_frame(jni);
		JVMTI(tools, JVMTI_DEALLOCATE, deallocate_fn)(tools, classes);
	} else {
		lost++;
	}
	JNI(jni, JNI_POP_LOCAL_FRAME, pop_fn)(jni, 0);
	if (again) {
		hidden = hidden_before;
		generated = generated_before;
		placed = placed_before;
	}
}

static void drain(interface jni)
{
	unsigned long missed;
	jobject class;

	while ((class = pop())) {
		if (!nobody_reads)
			tell_class(jni, class);
		JNI(jni, JNI_DELETE_GLOBAL_REF, drop_fn)(jni, class);
	}
	end_frame(jni);
	missed = __atomic_exchange_n(&dropped, 0, __ATOMIC_SEQ_CST);
	if (missed) {
		/* Perhaps unloaded again before this look. */
		lost += missed;
		look(jni, 1);
	}
}

/* Gives back what was queued before this place: a look has told it. */
static void forget(interface jni, unsigned long until)
{
	jobject class;

	while (queue_head < until && (class = pop()))
		JNI(jni, JNI_DELETE_GLOBAL_REF, drop_fn)(jni, class);
}

static void tell_counts(int at_once)
{
	static unsigned long long next_ms;
	char text[96];
	size_t length = 0;
	unsigned long unloaded = unloaded_classes() - unloaded_before;

	if ((hidden + generated + placed + unloaded == counts_told && !lost) || (!at_once && now_ms() < next_ms))
		return;
	next_ms = now_ms() + COUNTS_MS;
	counts_told = hidden + generated + placed + unloaded;
	length = put_number(text, length, hidden);
	length = put_number(text, length, generated);
	length = put_number(text, length, placed);
	if (perf_counter)
		length = put_number(text, length, unloaded);
	report("JG", text + 1, length - 1, "", 0);
}

static void set_events(int mode)
{
	static const jint events[] = { EVENT_CLASS_LOAD, EVENT_VM_DEATH, EVENT_VM_INIT };

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i] != EVENT_VM_INIT || (mode == JVMTI_ENABLE && !attached))
			JVMTI(tools, JVMTI_SET_EVENT_NOTIFICATION_MODE, mode_fn)(tools, mode, events[i], 0);
}

static size_t put_property(char *to, size_t at, size_t room, const char *name)
{
	char *value = 0;
	size_t length;

	if (JVMTI(tools, JVMTI_GET_SYSTEM_PROPERTY, property_fn)(tools, name, &value) || !value)
		return at;
	length = length_of(value);
	if (length <= room)
		at = put_bytes(to, at, value, length);
	JVMTI(tools, JVMTI_DEALLOCATE, deallocate_fn)(tools, value);
	return at;
}

static void hello(void)
{
	/* Of modules, and before these of a JRE. */
	static const char *const images[] = { "/lib/modules", "/lib/rt.jar" };
	char name[256], home[PLACE_MAX_BYTES], image[PLACE_MAX_BYTES];
	const char *mode = attached ? "\nattach" : "\nstart";
	size_t length = put_property(name, 0, 128, "java.vm.version");
	size_t home_length = put_property(home, 0, sizeof(home) - 16, "java.home"), image_length = 0;

	length = put_bytes(name, length, mode, length_of(mode));
	for (int i = 0; i < 2 && home_length && !image_length; i++) {
		home[put_bytes(home, home_length, images[i], length_of(images[i]))] = 0;
		image_length = real_path(home, image, sizeof(image));
	}
	report("JH", name, length, image, image_length);
}

/* Says hello on a thread of the JVM, which must not wait: what the FIFO has no room for now, the agent's thread says. */
static void hello_at_once(void)
{
	unsigned long lost_before = lost;

	deadline_ms = AT_ONCE;
	hello();
	deadline_ms = 0;
	greeted = lost == lost_before;
	lost = lost_before;
}

/* As [`fail`], on a thread of the JVM. */
static void fail_at_once(const char *why)
{
	deadline_ms = AT_ONCE;
	fail(why);
	deadline_ms = 0;
}

static void finish(interface jni)
{
	drain(jni);
	flush_batches();
	tell_counts(1);
	report("JE", "", 0, "", 0);
}

/* The agent is gone: the JVM goes on as if it never was there, but for the library's pages. */
static void leave(interface jni)
{
	set_events(JVMTI_DISABLE);
	drain(jni);
	JVMTI(tools, JVMTI_DISPOSE_ENVIRONMENT, dispose_fn)(tools);
	system_call(SYS_close, fifo, 0, 0, 0);
	__atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
	wake(&done);
}

static void run(interface ti, interface jni, void *nothing)
{
	unsigned long long next_epoch = now_ms() + EPOCH_MS;
	unsigned long long sigpipe = 1ull << (SIGPIPE - 1);
	unsigned long queued;
	const char *why;

	(void)ti;
	(void)nothing;
	/* Only for this thread: a write to a FIFO without a reader then just fails. */
	system_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&sigpipe, 0, sizeof(sigpipe));
	if (!greeted)
		hello();
	find_perf_data();
	if (attached)
		unloaded_before = unloaded_classes();
	add_boot_path(tools);
	why = find_ids(jni);
	if (why) {
		fail(why);
		nobody_reads = 1;
	}
	queued = __atomic_load_n(&queue_tail, __ATOMIC_SEQ_CST);
	look(jni, 0);
	forget(jni, queued);
	drain(jni);
	flush_batches();
	report("JS", "", 0, "", 0);
	while (!nobody_reads) {
		int ends = __atomic_load_n(&dying, __ATOMIC_SEQ_CST);

		if (ends) {
			finish(jni);
			break;
		}
		drain(jni);
		if (now_ms() >= next_epoch) {
			next_epoch = now_ms() + EPOCH_MS;
			look(jni, 1);
		}
		flush_batches();
		tell_counts(0);
		__atomic_store_n(&sleeping, 1, __ATOMIC_SEQ_CST);
		if (!is_waiting() && !__atomic_load_n(&dying, __ATOMIC_SEQ_CST))
			wait_while(&sleeping, 1, IDLE_MS);
		__atomic_store_n(&sleeping, 0, __ATOMIC_SEQ_CST);
		wait_while(&dying, 0, GATHER_MS);
	}
	if (__atomic_load_n(&dying, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
		wake(&done);
	} else {
		leave(jni);
	}
}

/* Why the agent's thread cannot be started; 0 if it was. */
static const char *start_thread(interface jni)
{
	jobject class = find_class(jni, "java/lang/Thread");
	method_id constructor = find_id(jni, JNI_GET_METHOD_ID, class, "<init>",
					"(Ljava/lang/ThreadGroup;Ljava/lang/String;)V");
	jobject *groups = 0, thread;
	jvalue arguments[2];
	jint count = 0;

	/* In the system's group, and with a name: a thread without one would take a number from the application's. */
	if (!constructor ||
	    JVMTI(tools, JVMTI_GET_TOP_THREAD_GROUPS, list_fn)(tools, &count, &groups) || count < 1)
		return "no thread can be made in this JVM";
	arguments[0].object = groups[0];
	arguments[1].object = JNI(jni, JNI_NEW_STRING_UTF, string_fn)(jni, "plimsoll");
	JVMTI(tools, JVMTI_DEALLOCATE, deallocate_fn)(tools, groups);
	thread = JNI(jni, JNI_NEW_OBJECT_A, call_fn)(jni, class, constructor, arguments);
	if (threw(jni) || !thread ||
	    JVMTI(tools, JVMTI_RUN_AGENT_THREAD, run_fn)(tools, thread, run, 0, THREAD_NORMAL_PRIORITY))
		return "the JVM does not start the agent's thread";
	return 0;
}

static int begin(interface jni)
{
	const char *why = JNI(jni, JNI_PUSH_LOCAL_FRAME, push_fn)(jni, LOCALS_MAX) ? "no memory in the JVM" : 0;

	set_events(JVMTI_ENABLE);
	if (!why) {
		why = start_thread(jni);
		JNI(jni, JNI_POP_LOCAL_FRAME, pop_fn)(jni, 0);
	}
	if (!why)
		return 1;
	threw(jni);
	set_events(JVMTI_DISABLE);
	fail_at_once(why);
	return 0;
}

static void on_vm_init(interface ti, interface jni, jobject thread)
{
	(void)ti;
	(void)thread;
	begin(jni);
}

static void on_vm_death(interface ti, interface jni)
{
	unsigned long long now = now_ms();

	(void)ti;
	(void)jni;
	deadline_ms = now + DEATH_MAX_MS;
	__atomic_store_n(&dying, 1, __ATOMIC_SEQ_CST);
	wake(&dying);
	rouse();
	while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST) && now < deadline_ms) {
		wait_while(&done, 0, (unsigned long)(deadline_ms - now));
		now = now_ms();
	}
}

/* Whether the agent can work in this JVM. Says hello. */
static int set_up(interface vm, const char *options, int is_attached)
{
	/* Functions in the order of the events, from the first on. */
	static const void *callbacks[EVENT_COUNT];
	char path[PATH_MAX_BYTES];
	size_t length = options ? length_of(options) : 0;
	jint got;

	/* Loaded twice: the first one works. */
	if (fifo >= 0 || !length || length >= sizeof(path))
		return 0;
	path[put_bytes(path, 0, options, length)] = 0;
	if (!open_fifo(path))
		return 0;
	attached = is_attached;
	got = JNI(vm, VM_GET_ENV, get_env_fn)(vm, &tools, JVMTI_VERSION_1_2);
	too_early = is_attached && got == JNI_EDETACHED;
	if (too_early) {
		system_call(SYS_close, fifo, 0, 0, 0);
		fifo = -1;
		return 0;
	}
	if (got) {
		fail_at_once("the JVM has no tool interface");
		return 0;
	}
	callbacks[EVENT_VM_INIT - EVENT_FIRST] = (const void *)on_vm_init;
	callbacks[EVENT_VM_DEATH - EVENT_FIRST] = (const void *)on_vm_death;
	callbacks[EVENT_CLASS_LOAD - EVENT_FIRST] = (const void *)on_class_load;
	if (JVMTI(tools, JVMTI_SET_EVENT_CALLBACKS, callbacks_fn)(tools, callbacks, sizeof(callbacks))) {
		fail_at_once("the JVM does not take the agent's callbacks");
		return 0;
	}
	hello_at_once();
	return 1;
}

__attribute__((visibility("default"))) jint Agent_OnLoad(interface vm, char *options, void *reserved)
{
	(void)reserved;
	/* Whatever happens, the application starts. */
	if (set_up(vm, options, 0))
		JVMTI(tools, JVMTI_SET_EVENT_NOTIFICATION_MODE, mode_fn)
	(tools, JVMTI_ENABLE, EVENT_VM_INIT, 0);
	return JNI_OK;
}

__attribute__((visibility("default"))) jint Agent_OnAttach(interface vm, char *options, void *reserved)
{
	interface jni;

	(void)reserved;
	if (!set_up(vm, options, 1) || JNI(vm, VM_GET_ENV, get_env_fn)(vm, &jni, JNI_VERSION_1_6) || !begin(jni))
		return too_early ? JNI_EDETACHED : JNI_ERR;
	return JNI_OK;
}

__attribute__((visibility("default"))) void Agent_OnUnload(interface vm)
{
	/* The JVM's end has been told by then. */
	(void)vm;
}
