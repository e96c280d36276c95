/* SPDX-License-Identifier: Apache-2.0
 * Where a class came from: the location of its code source, as the JVM's own log of class loading gives it.
 * It must never run a method of the application, nor one of the runtime that takes a lock: it reads fields. */
#pragma once

/* Local references within one class, and classes whose references are given back together. */
#define LOCALS_MAX 16
#define FRAME_CLASSES 32
/* Place of what has no URL of its own. */
static const char RUNTIME_IMAGE[] = "jrt:/";

/* Protection domains whose place is remembered; a jar has one. */
#define DOMAINS 64

enum found { FOUND_PLACE, FOUND_NONE, FOUND_TOO_LONG };

static struct {
	/* One of both. */
	field_id domain;
	method_id get_domain;
	field_id code_source, location, protocol, file;
	/* None before JDK 9. */
	field_id module, module_name;
} ids;

/* HotSpot's own function behind Class.getProtectionDomain0, which the JVM's library names; a call of the method is five times
 * as dear. 0 where the JVM's names are not to be seen. */
__attribute__((weak, visibility("default"))) jobject JVM_GetProtectionDomain(interface jni, jobject class);

/* Weakly held, so that class loaders can go. */
static struct domain {
	jobject domain;
	struct place place;
} domains[DOMAINS];
static int domain_count;
/* Those that are known, the one that was asked for last first. */
static unsigned char recent[DOMAINS];
static unsigned long next_number = PLACE_OF_CODE;
static const struct place nowhere = { .number = PLACE_NOWHERE };
static struct place runtime_image = { .number = PLACE_RUNTIME };

static int threw(interface jni)
{
	if (!JNI(jni, JNI_EXCEPTION_CHECK, check_fn)(jni))
		return 0;
	JNI(jni, JNI_EXCEPTION_CLEAR, clear_fn)(jni);
	return 1;
}

static jobject find_class(interface jni, const char *name)
{
	jobject class = JNI(jni, JNI_FIND_CLASS, find_class_fn)(jni, name);

	return threw(jni) ? 0 : class;
}

static void *find_id(interface jni, int function, jobject class, const char *name, const char *signature)
{
	void *id = class ? JNI(jni, function, id_fn)(jni, class, name, signature) : 0;

	return threw(jni) ? 0 : id;
}

/* Why it cannot be told where classes come from; 0 if it can. All these classes are loaded in every JVM. */
static const char *find_ids(interface jni)
{
	jobject class = find_class(jni, "java/lang/Class");
	jobject domain = find_class(jni, "java/security/ProtectionDomain");
	jobject source = find_class(jni, "java/security/CodeSource");
	jobject url = find_class(jni, "java/net/URL");

	/* A field since JDK 24; before, a native method that reads one of the JVM's own. */
	ids.domain = find_id(jni, JNI_GET_FIELD_ID, class, "protectionDomain", "Ljava/security/ProtectionDomain;");
	if (!ids.domain)
		ids.get_domain = find_id(jni, JNI_GET_METHOD_ID, class, "getProtectionDomain0",
					 "()Ljava/security/ProtectionDomain;");
	ids.module = find_id(jni, JNI_GET_FIELD_ID, class, "module", "Ljava/lang/Module;");
	if (ids.module)
		ids.module_name = find_id(jni, JNI_GET_FIELD_ID, find_class(jni, "java/lang/Module"), "name",
					  "Ljava/lang/String;");
	runtime_image.length = put_bytes(runtime_image.text, 0, RUNTIME_IMAGE, sizeof(RUNTIME_IMAGE) - 1);
	ids.code_source = find_id(jni, JNI_GET_FIELD_ID, domain, "codesource", "Ljava/security/CodeSource;");
	ids.location = find_id(jni, JNI_GET_FIELD_ID, source, "location", "Ljava/net/URL;");
	ids.protocol = find_id(jni, JNI_GET_FIELD_ID, url, "protocol", "Ljava/lang/String;");
	ids.file = find_id(jni, JNI_GET_FIELD_ID, url, "file", "Ljava/lang/String;");
	if (!(ids.domain || ids.get_domain) || !ids.code_source || !ids.location || !ids.protocol || !ids.file ||
	    (ids.module && !ids.module_name))
		return "this JVM's classes do not tell their code source by the fields that are known";
	return 0;
}

/* Appends a string; the new length, or PLACE_MAX_BYTES if there is no room. */
static size_t append(interface jni, jobject string, char *place, size_t at)
{
	jint bytes = JNI(jni, JNI_GET_STRING_UTF_LENGTH, length_fn)(jni, string);

	/* The copy ends with a zero byte. */
	if (bytes < 0 || at + (size_t)bytes + 2 > PLACE_MAX_BYTES)
		return PLACE_MAX_BYTES;
	JNI(jni, JNI_GET_STRING_UTF_REGION, region_fn)
	(jni, string, 0, JNI(jni, JNI_GET_STRING_LENGTH, length_fn)(jni, string), place + at);
	return threw(jni) ? PLACE_MAX_BYTES : at + (size_t)bytes;
}

/* A URL's protocol and file; no method of it is called, since handlers of protocols are the application's. */
static enum found text_of(interface jni, jobject url, struct place *place)
{
	jobject protocol = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, url, ids.protocol);
	jobject file = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, url, ids.file);
	size_t at;

	if (!protocol || !file)
		return FOUND_NONE;
	at = append(jni, protocol, place->text, 0);
	if (at == PLACE_MAX_BYTES)
		return FOUND_TOO_LONG;
	place->text[at++] = ':';
	at = append(jni, file, place->text, at);
	if (at == PLACE_MAX_BYTES)
		return FOUND_TOO_LONG;
	place->length = at;
	/* All modules of the runtime image lie in one file. */
	if (starts_with(place->text, at, RUNTIME_IMAGE)) {
		place->length = sizeof(RUNTIME_IMAGE) - 1;
		place->number = PLACE_RUNTIME;
	} else {
		place->length = put_real_path(place->text, at, PLACE_MAX_BYTES);
		place->number = next_number++;
	}
	return FOUND_PLACE;
}

static void move_to_front(int index)
{
	unsigned char moved = recent[index];

	for (; index; index--)
		recent[index] = recent[index - 1];
	recent[0] = moved;
}

static const struct place *known(interface jni, jobject domain)
{
	for (int i = 0; i < domain_count; i++) {
		struct domain *one = &domains[recent[i]];

		if (!one->domain || !JNI(jni, JNI_IS_SAME_OBJECT, same_fn)(jni, one->domain, domain))
			continue;
		move_to_front(i);
		return &one->place;
	}
	return 0;
}

/* Room for one more domain: that of the one which was not asked for the longest. */
static struct domain *room_for_domain(interface jni)
{
	if (domain_count < DOMAINS) {
		recent[domain_count] = (unsigned char)domain_count;
		domain_count++;
	}
	move_to_front(domain_count - 1);
	if (domains[recent[0]].domain)
		JNI(jni, JNI_DELETE_WEAK_GLOBAL_REF, drop_fn)(jni, domains[recent[0]].domain);
	domains[recent[0]].domain = 0;
	return &domains[recent[0]];
}

static enum found by_code_source(interface jni, jobject domain, const struct place **place)
{
	jobject at = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, domain, ids.code_source);
	struct domain *room;
	enum found found;

	if (at)
		at = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, at, ids.location);
	if (!at)
		return FOUND_NONE;
	room = room_for_domain(jni);
	found = text_of(jni, at, &room->place);
	if (found != FOUND_PLACE)
		return found;
	room->domain = JNI(jni, JNI_NEW_WEAK_GLOBAL_REF, object_fn)(jni, domain);
	threw(jni);
	*place = &room->place;
	return FOUND_PLACE;
}

/* Generated by the JDK itself, by their own names. */
static int is_of_the_jdk(const char *name, size_t length)
{
	static const char *const prefixes[] = { "jdk/internal/reflect/Generated", "sun/reflect/Generated" };
	size_t base = length;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts_with(name, length, prefixes[i]))
			return 1;
	while (base && name[base - 1] != '/')
		base--;
	return starts_with(name + base, length - base, "$Proxy");
}

/* Packages that only the runtime's own archives may have, in every version. */
static int is_of_the_runtime(const char *name, size_t length)
{
	static const char *const prefixes[] = { "java/", "jdk/", "sun/" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts_with(name, length, prefixes[i]))
			return 1;
	return 0;
}

/* A class of the boot loader: of a named module, or of an archive on its class path. */
static enum found by_boot_loader(interface jni, jobject class, const char *name, size_t length, const struct place **place)
{
	int in_module = ids.module && is_of_the_runtime(name, length);

	if (ids.module && !in_module) {
		jobject module = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, class, ids.module);

		in_module = module && JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, module, ids.module_name);
	}
	*place = in_module ? &runtime_image : boot_place(name, length, !is_of_the_jdk(name, length));
	return *place ? FOUND_PLACE : FOUND_NONE;
}

static jobject domain_of(interface jni, jobject class)
{
	jobject domain;

	if (ids.domain)
		return JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, class, ids.domain);
	if (JVM_GetProtectionDomain)
		return JVM_GetProtectionDomain(jni, class);
	domain = JNI(jni, JNI_CALL_OBJECT_METHOD_A, call_fn)(jni, class, ids.get_domain, 0);
	return threw(jni) ? 0 : domain;
}

/* The place is valid until the next call. */
static enum found place_of(interface tools, interface jni, jobject class, const char *name, size_t length,
			   const struct place **place)
{
	jobject domain = domain_of(jni, class), loader = 0;

	/* Of a domain that is known, no class is the boot loader's. */
	*place = domain ? known(jni, domain) : 0;
	if (*place)
		return FOUND_PLACE;
	JVMTI(tools, JVMTI_GET_CLASS_LOADER, loader_fn)(tools, class, &loader);
	if (!loader)
		return by_boot_loader(jni, class, name, length, place);
	return domain ? by_code_source(jni, domain, place) : FOUND_NONE;
}
