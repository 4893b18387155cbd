/* From the arrays of `rans_python.Arrays` to a Coder. Nothing is believed: no argument may break memory. */
#include "_rans_core.h"

#define MAX_VALUES (1 << 26)
#define MAX_TABLES (1 << 16)

enum { INDEX, LOWS, SIZES, FREQS, INVERSE_STEP, OFFSET, STEP, SHIFT, ARGUMENTS };

static const struct {
    const char *name;
    Py_ssize_t bytes;
} ITEMS[] = {{"index", 2},        {"lows", 4},   {"sizes", 4}, {"freqs", 2},
             {"inverse_step", 4}, {"offset", 4}, {"step", 4},  {"shift", 4}};

typedef struct {
    PyObject *config_error;
    int held; /* views */
    Py_buffer views[ARGUMENTS];
    Py_ssize_t lengths[ARGUMENTS]; /* in items */
} Arguments;

static int wrong(const Arguments *given, int which, const char *fact, Py_ssize_t value)
{
    PyErr_Format(given->config_error, "entropy coder: %s %s, got %zd", ITEMS[which].name, fact, value);
    return -1;
}

static int hold(Arguments *given, PyObject *args)
{
    if (PyTuple_Size(args) != ARGUMENTS) {
        PyErr_Format(PyExc_TypeError, "Coder takes %d arrays, got %zd", ARGUMENTS, PyTuple_Size(args));
        return -1;
    }
    for (int which = 0; which < ARGUMENTS; which++, given->held++) {
        if (PyObject_GetBuffer(PyTuple_GetItem(args, which), &given->views[which], PyBUF_SIMPLE) < 0)
            return -1;
        given->lengths[which] = given->views[which].len / ITEMS[which].bytes;
    }
    return 0;
}

static int check_lengths(const Arguments *given)
{
    const Py_ssize_t *lengths = given->lengths, count = lengths[INDEX];
    if (count < 1 || count > MAX_VALUES)
        return wrong(given, INDEX, "must have 1 to 2**26 items", count);
    for (int which = INVERSE_STEP; which <= SHIFT; which++)
        if (lengths[which] != count)
            return wrong(given, which, "must have an item for each value", lengths[which]);
    if (lengths[LOWS] < 1 || lengths[LOWS] > MAX_TABLES || lengths[SIZES] != lengths[LOWS])
        return wrong(given, SIZES, "must have an item for each of 1 to 2**16 tables", lengths[SIZES]);
    if (lengths[FREQS] > (int64_t)MAX_TABLES * TOTAL)
        return wrong(given, FREQS, "must be those of all tables", lengths[FREQS]);
    return 0;
}

static void *copied(const Arguments *given, int which)
{
    size_t size = (size_t)(given->lengths[which] * ITEMS[which].bytes);
    void *memory = PyMem_Malloc(size ? size : 1);
    if (memory && size)
        memcpy(memory, given->views[which].buf, size);
    return memory;
}

static int allocate(Coder *coder, const Arguments *given)
{
    size_t count = (size_t)given->lengths[INDEX], tables = (size_t)given->lengths[LOWS];
    coder->count = given->lengths[INDEX];
    coder->table_count = given->lengths[LOWS];
    if (!(coder->index = copied(given, INDEX)) || !(coder->inverse_step = copied(given, INVERSE_STEP)) ||
        !(coder->offset = copied(given, OFFSET)) || !(coder->step = copied(given, STEP)) ||
        !(coder->shift = copied(given, SHIFT)) || !(coder->tables = PyMem_Calloc(tables, sizeof(Table))) ||
        !(coder->symbols = PyMem_Calloc((size_t)given->lengths[FREQS] + tables, sizeof(Symbol))) ||
        !(coder->cells = PyMem_Calloc(tables * CELLS, sizeof(uint16_t))) ||
        !(coder->levels = PyMem_Calloc(count, sizeof(int16_t))) ||
        !(coder->payload = PyMem_Malloc(4 * count + SPARE))) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int fill_table(Coder *coder, const Arguments *given, ptrdiff_t which, Py_ssize_t from)
{
    Table *table = coder->tables + which;
    Symbol *symbols = coder->symbols + table->first;
    uint32_t start = 0, cell = 0;
    for (uint32_t number = 0; number <= table->escape; number++) {
        uint16_t freq;
        memcpy(&freq, (const char *)given->views[FREQS].buf + 2 * (from + number), 2);
        if (freq < 1 || freq >= TOTAL || start + freq > TOTAL)
            return wrong(given, FREQS, "must each be 1 or more and sum to 2**15 in each table", freq);
        symbols[number] = (Symbol){((1ull << (32 + PRECISION)) + freq - 1) / freq, (uint32_t)freq << (32 - PRECISION),
                                   (uint16_t)start, (uint16_t)(TOTAL - freq)};
        start += freq;
        for (; cell * (TOTAL / CELLS) < start; cell++)
            coder->cells[which * CELLS + cell] = (uint16_t)number;
    }
    if (start != TOTAL)
        return wrong(given, FREQS, "must sum to 2**15 in each table", (Py_ssize_t)start);
    symbols[table->escape + 1].start = TOTAL;
    return 0;
}

static int fill_tables(Coder *coder, const Arguments *given)
{
    Py_ssize_t from = 0;
    for (ptrdiff_t which = 0; which < coder->table_count; which++) {
        int32_t low, size;
        memcpy(&low, (const char *)given->views[LOWS].buf + 4 * which, 4);
        memcpy(&size, (const char *)given->views[SIZES].buf + 4 * which, 4);
        if (size < 2 || size > given->lengths[FREQS] - from)
            return wrong(given, SIZES, "must be 2 or more, and sum to the number of freqs", size);
        if (low < INT16_MIN || low > INT16_MAX || size - 2 > INT16_MAX - low)
            return wrong(given, LOWS, "must leave the whole table within int16", low);
        coder->tables[which] = (Table){(uint32_t)(from + which), (uint32_t)size - 1, low};
        if (fill_table(coder, given, which, from) < 0)
            return -1;
        from += size;
    }
    return from == given->lengths[FREQS] ? 0 : wrong(given, FREQS, "must be those of all tables", from);
}

static int check_values(const Coder *coder, const Arguments *given)
{
    for (ptrdiff_t i = 0; i < coder->count; i++) {
        if (coder->index[i] >= coder->table_count)
            return wrong(given, INDEX, "must name a table", coder->index[i]);
        if (!(coder->offset[i] >= 0 && coder->offset[i] < 1))
            return wrong(given, OFFSET, "must be 0 or more and below 1; position", i);
    }
    return 0;
}

/* Raises ConfigError, or MemoryError; what was made until then is `demolish`ed by the caller. */
static int build(Coder *coder, const Arguments *given)
{
    return check_lengths(given) < 0 || allocate(coder, given) < 0 || fill_tables(coder, given) < 0 ||
                   check_values(coder, given) < 0
               ? -1
               : 0;
}

static void demolish(Coder *coder)
{
    void *memory[] = {coder->index,  coder->tables, coder->symbols, coder->cells,  coder->inverse_step,
                      coder->offset, coder->step,   coder->shift,   coder->levels, coder->payload};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        PyMem_Free(memory[i]);
}
