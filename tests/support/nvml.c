/* A stand-in for NVIDIA's libnvidia-ml.so.1. The file that NVIDIA_STUB names, a variable that workers get, too, says at each
 * call what there is:
 *
 *   gpu UUID TOTAL FREE UTILIZATION MAJOR.MINOR NAME    a GPU; bytes, percent; MIG-... is an instance, found by UUID only
 *   refuse FUNCTION CODE WHOSE                          a function that answers so, for a GPU's UUID or `all`
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, MOST = 80 };

struct gpu {
    char uuid[80], name[80];
    unsigned long long total, free;
    unsigned utilization, major, minor;
};

struct memory { unsigned long long total, free, used; };

struct rates { unsigned gpu, memory; };

static struct gpu gpus[MOST];
static int found, users;

/* Reads the file anew; what `function` answers for the GPU. */
static int asked(const char *function, const char *uuid) {
    char line[512], refused[80], whose[80];
    int code, answer = SUCCESS;
    FILE *file = fopen(getenv("NVIDIA_STUB"), "r");
    if (!file)
        abort();
    found = 0;
    while (fgets(line, sizeof line, file)) {
        struct gpu *next = &gpus[found];
        if (found < MOST && sscanf(line, "gpu %79s %llu %llu %u %u.%u %79[^\n]", next->uuid, &next->total, &next->free,
                                   &next->utilization, &next->major, &next->minor, next->name) == 7)
            found++;
        else if (sscanf(line, "refuse %79s %d %79s", refused, &code, whose) == 3 && !strcmp(refused, function)
                 && (!strcmp(whose, "all") || !strcmp(whose, uuid)))
            answer = code;
    }
    fclose(file);
    return users || !strncmp(function, "nvmlInit", 8) ? answer : UNINITIALIZED;
}

static int is_instance(const struct gpu *gpu) { return !strncmp(gpu->uuid, "MIG-", 4); }

int nvmlInitWithFlags(unsigned flags) {
    int answer = asked("nvmlInitWithFlags", "");
    users += !answer;
    return flags ? INVALID_ARGUMENT : answer;
}

int nvmlShutdown(void) {
    int answer = asked("nvmlShutdown", "");
    users -= !answer;
    return answer;
}

const char *nvmlErrorString(int code) { return code == 28 ? "GPU not found" : "Unknown Error"; }

int nvmlSystemGetDriverVersion(char *to, unsigned size) {
    int answer = asked("nvmlSystemGetDriverVersion", "");
    if (!answer)
        snprintf(to, size, "580.65.06");
    return answer;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    int answer = asked("nvmlSystemGetCudaDriverVersion_v2", "");
    *version = 13000;
    return answer;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int answer = asked("nvmlDeviceGetCount_v2", "");
    *count = 0;
    for (int i = 0; i < found; i++)
        *count += !is_instance(&gpus[i]);
    return answer;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **gpu) {
    int answer = asked("nvmlDeviceGetHandleByIndex_v2", "");
    for (int i = 0; !answer && i < found; i++)
        if (!is_instance(&gpus[i]) && !index--) {
            *gpu = &gpus[i];
            return asked("nvmlDeviceGetHandleByIndex_v2", gpus[i].uuid);
        }
    return answer ? answer : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **gpu) {
    int answer = asked("nvmlDeviceGetHandleByUUID", uuid);
    for (int i = 0; !answer && i < found; i++)
        if (!strcmp(gpus[i].uuid, uuid)) {
            *gpu = &gpus[i];
            return SUCCESS;
        }
    return answer ? answer : NOT_FOUND;
}

static int text(const char *function, const struct gpu *gpu, const char *from, char *to, unsigned size) {
    int answer = asked(function, gpu->uuid);
    if (!answer && strlen(from) >= size)
        return INSUFFICIENT_SIZE;
    if (!answer)
        strcpy(to, from);
    return answer;
}

int nvmlDeviceGetUUID(struct gpu *gpu, char *to, unsigned size) {
    return text("nvmlDeviceGetUUID", gpu, gpu->uuid, to, size);
}

int nvmlDeviceGetName(struct gpu *gpu, char *to, unsigned size) {
    return text("nvmlDeviceGetName", gpu, gpu->name, to, size);
}

int nvmlDeviceGetMemoryInfo(struct gpu *gpu, struct memory *memory) {
    int answer = asked("nvmlDeviceGetMemoryInfo", gpu->uuid);
    memory->total = gpu->total;
    memory->free = gpu->free;
    memory->used = gpu->total - gpu->free;
    return answer;
}

int nvmlDeviceGetUtilizationRates(struct gpu *gpu, struct rates *rates) {
    int answer = asked("nvmlDeviceGetUtilizationRates", gpu->uuid);
    rates->gpu = gpu->utilization;
    return answer ? answer : is_instance(gpu) ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(struct gpu *gpu, int *major, int *minor) {
    int answer = asked("nvmlDeviceGetCudaComputeCapability", gpu->uuid);
    *major = (int)gpu->major;
    *minor = (int)gpu->minor;
    return answer;
}
