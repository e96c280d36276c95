/* SPDX-License-Identifier: Apache-2.0
 * Where a class came from: the location of its code source, as the JVM's own log of class loading gives it.
 * It must never run a method of the application, nor one of the runtime that takes a lock: it reads fields. */
#pragma once

#define PLACE_MAX_BYTES 2048
/* Local references within one class. */
#define LOCALS_MAX 16
/* Places without a URL of their own. */
static const char RUNTIME_IMAGE[] = "jrt:/";

/* Protection domains whose place is remembered; a jar has one. */
#define DOMAINS 32

enum found { FOUND_PLACE, FOUND_NONE, FOUND_TOO_LONG };

static struct {
	/* One of both. */
	field_id domain;
	method_id get_domain;
	field_id code_source, location, protocol, file;
	/* None before JDK 9. */
	field_id module, module_name;
} ids;

/* Weakly held, so that class loaders can go. */
static struct domain {
	jobject domain;
	size_t length;
	char place[PLACE_MAX_BYTES];
} domains[DOMAINS];
static int last_domain, next_domain;

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
static enum found text_of(interface jni, jobject url, char *place, size_t *length)
{
	jobject protocol = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, url, ids.protocol);
	jobject file = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, url, ids.file);
	size_t at;

	if (!protocol || !file)
		return FOUND_NONE;
	at = append(jni, protocol, place, 0);
	if (at == PLACE_MAX_BYTES)
		return FOUND_TOO_LONG;
	place[at++] = ':';
	at = append(jni, file, place, at);
	if (at == PLACE_MAX_BYTES)
		return FOUND_TOO_LONG;
	/* All modules of the runtime image lie in one file. */
	*length = starts_with(place, at, RUNTIME_IMAGE) ? sizeof(RUNTIME_IMAGE) - 1 : at;
	return FOUND_PLACE;
}

static const struct domain *known(interface jni, jobject domain)
{
	for (int i = 0; i < DOMAINS; i++) {
		/* Classes of one jar come in a row. */
		struct domain *one = &domains[(last_domain + i) % DOMAINS];

		if (one->domain && JNI(jni, JNI_IS_SAME_OBJECT, same_fn)(jni, one->domain, domain)) {
			last_domain = (int)(one - domains);
			return one;
		}
	}
	return 0;
}

static void remember(interface jni, jobject domain, const char *place, size_t length)
{
	struct domain *one = &domains[next_domain];

	if (one->domain)
		JNI(jni, JNI_DELETE_WEAK_GLOBAL_REF, drop_fn)(jni, one->domain);
	one->domain = JNI(jni, JNI_NEW_WEAK_GLOBAL_REF, object_fn)(jni, domain);
	threw(jni);
	one->length = put_bytes(one->place, 0, place, length);
	last_domain = next_domain;
	next_domain = (next_domain + 1) % DOMAINS;
}

static enum found by_code_source(interface jni, jobject class, char *place, size_t *length)
{
	jobject domain = ids.domain ? JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, class, ids.domain) :
				      JNI(jni, JNI_CALL_OBJECT_METHOD_A, call_fn)(jni, class, ids.get_domain, 0);
	jobject at;
	const struct domain *one;
	enum found found;

	if (threw(jni) || !domain)
		return FOUND_NONE;
	one = known(jni, domain);
	if (one) {
		*length = put_bytes(place, 0, one->place, one->length);
		return FOUND_PLACE;
	}
	at = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, domain, ids.code_source);
	if (at)
		at = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, at, ids.location);
	if (!at)
		return FOUND_NONE;
	found = text_of(jni, at, place, length);
	if (found == FOUND_PLACE) {
		*length = put_real_path(place, *length, PLACE_MAX_BYTES);
		remember(jni, domain, place, *length);
	}
	return found;
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
static enum found by_boot_loader(interface jni, jobject class, const char *name, size_t name_length, char *place,
				 size_t *length)
{
	int in_module = ids.module && is_of_the_runtime(name, name_length);

	if (ids.module && !in_module) {
		jobject module = JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, class, ids.module);

		in_module = module && JNI(jni, JNI_GET_OBJECT_FIELD, field_fn)(jni, module, ids.module_name);
	}
	if (in_module)
		*length = put_bytes(place, 0, RUNTIME_IMAGE, sizeof(RUNTIME_IMAGE) - 1);
	else
		*length = boot_place(name, name_length, !is_of_the_jdk(name, name_length), place);
	return *length ? FOUND_PLACE : FOUND_NONE;
}

static enum found place_of(interface jni, jobject class, jobject loader, const char *name, size_t name_length,
			   char *place, size_t *length)
{
	if (!loader)
		return by_boot_loader(jni, class, name, name_length, place, length);
	return by_code_source(jni, class, place, length);
}
