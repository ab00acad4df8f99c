/* A plugin of qemu-user, versions 7 and 8: how many instructions of the emulated CPU each function executes.

       qemu-aarch64 -plugin libcount.so,out=FILE PROGRAM

   FILE gets a line "COUNT FUNCTION" for each, names from the program's symbols. Debian does not package qemu-plugin.h;
   what is used of it is declared here. A block counts whole, for the function that it begins in. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FUNCTIONS 4096

struct qemu_plugin_tb;
struct qemu_plugin_insn;

int qemu_plugin_version = 1;
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t i);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*call)(uint64_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation, void *at, uint64_t value);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*call)(uint64_t id, void *data), void *data);

static struct {
    char name[64];
    uint64_t count;
} functions[FUNCTIONS];
static size_t known;
static const char *out;

static uint64_t *counter_of(const char *name)
{
    size_t i = 0;
    while (i < known && strncmp(functions[i].name, name, sizeof functions[i].name - 1))
        i++;
    if (i == known && known + 1 < FUNCTIONS)
        strncpy(functions[known++].name, name, sizeof functions[i].name - 1);
    return &functions[i].count;
}

static void count_block(uint64_t id, struct qemu_plugin_tb *block)
{
    const char *name = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, counter_of(name ? name : "?"), qemu_plugin_tb_n_insns(block));
}

static void write_counts(uint64_t id, void *data)
{
    FILE *file = fopen(out, "w");
    (void)id, (void)data;
    for (size_t i = 0; file && i < known; i++)
        fprintf(file, "%" PRIu64 " %s\n", functions[i].count, functions[i].name);
    if (file)
        fclose(file);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4))
        return 1;
    out = strdup(argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
    qemu_plugin_register_atexit_cb(id, write_counts, NULL);
    return 0;
}
