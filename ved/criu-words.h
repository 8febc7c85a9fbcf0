/*
 * Why criu refused, for a person who does not know criu: the causes that services meet have a sentence of ours, found in
 * criu's log or, where that is mute, in what the tasks have open; the log's last error lines follow in any case.
 */
#ifndef VED_CRIU_WORDS_H
#define VED_CRIU_WORDS_H

#include "ved/engine.h"

/*
 * Before criu is asked: what it would find out only by waiting, while the service stands still.  0, or refused in words.
 */
int criu_foresee(const char *cgroup_dir, struct engine_error *error);
/* cgroup_dir: of the VE, whose open files are looked at for what no image can hold; NULL: not. */
void criu_explain(const char *dir, const char *log_file, const char *message,
    const char *cgroup_dir, struct engine_error *error);
/* The part that is only words: from a log's text; found: a cause that is known otherwise, or NULL. */
void criu_explain_text(
    const char *log, const char *message, const char *found, struct engine_error *error);

#endif
