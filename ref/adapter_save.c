/* adapter.safetensors and config.json: see adapter_save.h. */
#include "ref/adapter_save.h"

#include "weights/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_tensors(const char *path, const AdapterFiles *a, Error *err) {
    char step[24];
    const char *const metadata[] = {"format", "llmdiff-adapter", "step", step, NULL};
    snprintf(step, sizeof step, "%" PRId64, a->step);
    return safetensors_write(path, a->tensor, a->count, metadata, err);
}

static int write_config(const char *path, const AdapterFiles *a, Error *err) {
    cJSON *json = settings_to_json(a->settings);
    bool good = cJSON_AddStringToObject(json, "_class_name", "LLMDiffAdapter") &&
                cJSON_AddNumberToObject(json, "llm_hidden_size", (double)a->D) &&
                cJSON_AddNumberToObject(json, "llm_num_blocks", (double)a->T) &&
                cJSON_AddNumberToObject(json, "cross_attention_dim", (double)a->E) &&
                cJSON_AddNumberToObject(json, "step", (double)a->step);
    char *text = good ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    OutFile out;
    int status = text ? outfile_open(&out, path, err) : fail(err, "out of memory for %s", path);
    if (status == 0) {
        fprintf(out.stream, "%s\n", text);
        status = outfile_close(&out, err);
    }
    cJSON_free(text);
    return status;
}

int adapter_save(const char *dir, const AdapterFiles *files, Error *err) {
    const size_t room = strlen(dir) + 32;
    char *path[2] = {malloc(room), malloc(room)};
    if (!path[0] || !path[1]) {
        fail(err, "%s: out of memory", dir);
    } else {
        snprintf(path[0], room, "%s/adapter.safetensors", dir);
        snprintf(path[1], room, "%s/config.json", dir);
        if (write_tensors(path[0], files, err) == 0 && write_config(path[1], files, err))
            unlink(path[0]); /* both files, or none */
    }
    free(path[0]);
    free(path[1]);
    return err->set ? -1 : 0;
}
