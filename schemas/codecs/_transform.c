/* `transform_python.Transform` in C: the arithmetic is in `_transform_core.h`, this is its Python type.
 *
 * A call runs no Python between its first write to scratch memory and its last read of it, so that the interpreter's
 * lock is all the locking there is. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include "_transform_core.h"

#define MAX_VALUES (1 << 26)

typedef struct {
    PyObject_HEAD
    Plan plan;
} Object;

/* ---- construction ---- */

static const char *const SIZE_NAMES[SIZES] = {"channels", "height", "width", "rows", "columns", "bands", "components"};

static int read_sizes(Plan *plan, PyObject *sizes)
{
    for (int which = 0; which < SIZES; which++) {
        PyObject *item = PySequence_GetItem(sizes, which);
        if (!item)
            return -1;
        const Py_ssize_t size = PyLong_AsSsize_t(item);
        Py_DECREF(item);
        if (size < 1 || size > 65536) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError, "transform: %s is %zd, must be 1 to 65536", SIZE_NAMES[which], size);
            return -1;
        }
        plan->size[which] = size;
    }
    const ptrdiff_t *size = plan->size;
    const int small = size[HEIGHT] <= MAX_VALUES / size[WIDTH] / size[CHANNELS] &&
                      size[CHANNELS] <= MAX_VALUES / size[COMPONENTS] / size[BANDS];
    if (!small || size[ROWS] > size[HEIGHT] || size[COLUMNS] > size[WIDTH] || size[COMPONENTS] > size[CHANNELS]) {
        PyErr_SetString(PyExc_ValueError,
                        "transform: more rows, columns or components than the tensor has, or over 2**26 values");
        return -1;
    }
    return 0;
}

/* A copy of a buffer that must have `count` items of `bytes` bytes. */
static void *copy_of(PyObject *buffer, const char *name, ptrdiff_t count, size_t bytes)
{
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    void *copy = NULL;
    if (view.len != count * (Py_ssize_t)bytes)
        PyErr_Format(PyExc_ValueError, "transform: %s has %zd bytes, must have %zd items of %zd", name, view.len, count,
                     (Py_ssize_t)bytes);
    else if (!(copy = malloc(view.len)))
        PyErr_NoMemory();
    else
        memcpy(copy, view.buf, view.len);
    PyBuffer_Release(&view);
    return copy;
}

static int read_arrays(Plan *plan, PyObject *args)
{
    const ptrdiff_t *size = plan->size, places = size[ROWS] * size[COLUMNS];
    const ptrdiff_t matrices = size[BANDS] * size[CHANNELS] * size[COMPONENTS];
#define COPY(field, place, count)                                                                                      \
    ((plan->field = copy_of(PyTuple_GetItem(args, place), #field, count, sizeof *plan->field)) != NULL)
    return COPY(mean, 1, size[CHANNELS]) && COPY(rows, 2, size[ROWS] * ((size[HEIGHT] + 1) / 2)) &&
                   COPY(columns, 3, size[COLUMNS] * ((size[WIDTH] + 1) / 2)) && COPY(forward, 4, matrices) &&
                   COPY(inverse, 5, matrices) && COPY(band, 6, places) && COPY(kept, 7, places)
               ? 0
               : -1;
#undef COPY
}

static int check_places(Plan *plan)
{
    for (ptrdiff_t f = 0; f < plan->size[ROWS] * plan->size[COLUMNS]; f++) {
        if (plan->band[f] >= plan->size[BANDS] || plan->kept[f] > plan->size[COMPONENTS]) {
            PyErr_Format(PyExc_ValueError, "transform: frequency %zd is of band %d and keeps %d components", f,
                         plan->band[f], plan->kept[f]);
            return -1;
        }
        plan->count += plan->kept[f];
        if (plan->kept[f]) {
            plan->rows_used = f / plan->size[COLUMNS] + 1;
            plan->columns_used[plan->rows_used - 1] = f % plan->size[COLUMNS] + 1;
        }
    }
    return 0;
}

static int make_scratch(Plan *plan)
{
    const ptrdiff_t *size = plan->size, line = size[WIDTH] * size[CHANNELS], values = size[HEIGHT] * line;
    const ptrdiff_t longest = line * ((size[HEIGHT] + 1) / 2), wide = size[CHANNELS] * ((size[WIDTH] + 1) / 2);
    const ptrdiff_t folded = longest > wide ? longest : wide;
    plan->grid = malloc(values * sizeof(float));
    plan->middle = malloc(values * sizeof(float));
    plan->frequency = malloc(size[ROWS] * size[COLUMNS] * size[CHANNELS] * sizeof(float));
    plan->even = malloc(folded * sizeof(float));
    plan->odd = malloc(folded * sizeof(float));
    plan->mixed = malloc(size[COMPONENTS] * sizeof(float));
    plan->columns_used = calloc(size[ROWS], sizeof *plan->columns_used);
    if (plan->grid && plan->middle && plan->frequency && plan->even && plan->odd && plan->mixed && plan->columns_used)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if ((kwargs && PyDict_Size(kwargs)) || PyTuple_Size(args) != 8)
        return PyErr_Format(PyExc_TypeError, "Transform takes sizes and 7 arrays");
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    Plan *plan = self ? &((Object *)self)->plan : NULL;
    if (plan && (read_sizes(plan, PyTuple_GetItem(args, 0)) < 0 || read_arrays(plan, args) < 0 ||
                 make_scratch(plan) < 0 || check_places(plan) < 0))
        Py_CLEAR(self);
    return self;
}

static void destroy(PyObject *object)
{
    Plan *plan = &((Object *)object)->plan;
    void *held[] = {plan->mean, plan->rows,   plan->columns,   plan->forward, plan->inverse, plan->band,  plan->kept,
                    plan->grid, plan->middle, plan->frequency, plan->even,    plan->odd,     plan->mixed, plan->columns_used};
    for (size_t which = 0; which < sizeof held / sizeof *held; which++)
        free(held[which]);
    PyTypeObject *type = Py_TYPE(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF((PyObject *)type);
}

/* ---- methods ---- */

typedef void (*Work)(const Plan *, const float *, float *);

typedef struct {
    PyObject *const *each;
    Py_ssize_t count;
} Arguments;

static int are_floats(const Py_buffer *view, ptrdiff_t count)
{
    return view->len == count * (Py_ssize_t)sizeof(float) && view->format && strcmp(view->format, "f") == 0;
}

static int is_tensor(const Py_buffer *view, const ptrdiff_t *size)
{
    return view->ndim == 3 && view->shape[0] == size[CHANNELS] && view->shape[1] == size[HEIGHT] &&
           view->shape[2] == size[WIDTH];
}

/* `work` from the first array to the second, of which one is a tensor and the other `plan->count` values. */
static PyObject *apply(Arguments args, const Plan *plan, Work work, int tensor)
{
    PyObject *done = NULL;
    Py_buffer views[2];
    if (args.count != 2)
        return PyErr_Format(PyExc_TypeError, "transform: takes 2 arrays, not %zd", args.count);
    if (PyObject_GetBuffer(args.each[0], &views[0], PyBUF_ND | PyBUF_FORMAT) < 0)
        return NULL;
    if (PyObject_GetBuffer(args.each[1], &views[1], PyBUF_ND | PyBUF_FORMAT | PyBUF_WRITABLE) == 0) {
        const ptrdiff_t *size = plan->size;
        if (is_tensor(&views[tensor], size) &&
            are_floats(&views[tensor], size[CHANNELS] * size[HEIGHT] * size[WIDTH]) &&
            are_floats(&views[!tensor], plan->count)) {
            work(plan, views[0].buf, views[1].buf);
            done = Py_NewRef(Py_None);
        } else {
            PyErr_Format(PyExc_ValueError, "transform: the tensor is float32[%zd, %zd, %zd], its code float32[%zd]",
                         size[CHANNELS], size[HEIGHT], size[WIDTH], plan->count);
        }
        PyBuffer_Release(&views[1]);
    }
    PyBuffer_Release(&views[0]);
    return done;
}

static PyObject *forward_method(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return apply((Arguments){args, count}, &((Object *)self)->plan, forward, 0);
}

static PyObject *inverse_method(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return apply((Arguments){args, count}, &((Object *)self)->plan, inverse, 1);
}

/* ---- module ---- */

static PyMethodDef METHODS[] = {
    {"forward", (PyCFunction)(void (*)(void))forward_method, METH_FASTCALL, "float32[C, H, W] into float32[n]"},
    {"inverse", (PyCFunction)(void (*)(void))inverse_method, METH_FASTCALL, "float32[n] into float32[C, H, W]"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {{Py_tp_new, create},
                              {Py_tp_dealloc, destroy},
                              {Py_tp_methods, METHODS},
                              {Py_tp_doc, "transform_python.Transform in C."},
                              {0, NULL}};

static PyType_Spec SPEC = {.name = "schemas.codecs._transform.Transform",
                           .basicsize = sizeof(Object),
                           .flags = Py_TPFLAGS_DEFAULT,
                           .slots = SLOTS};

static int fill(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &SPEC, NULL);
    int status = type ? PyModule_AddObjectRef(module, "Transform", type) : -1;
    Py_XDECREF(type);
    return status;
}

static PyModuleDef_Slot PHASES[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_transform", .m_doc = "The transform in C.", .m_slots = PHASES};

PyMODINIT_FUNC PyInit__transform(void)
{
    return PyModuleDef_Init(&MODULE);
}
