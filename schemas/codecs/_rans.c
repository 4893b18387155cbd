/* `schemas.codecs.entropy` in C: one call a tensor. The coder itself is in `_rans_core.h`, this is its Python type.
 *
 * A call on a coder never runs Python between its first write to scratch memory and its last read of it, so that the
 * interpreter's lock is all the locking there is. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include "_rans_build.h"

typedef struct {
    PyObject_HEAD
    Coder coder;
    PyObject *float_args, *int_args; /* of numpy.empty */
} Object;

typedef struct {
    PyObject *config_error, *decode_error, *tensor_error, *empty, *float32, *int32;
} State;

static State *state_of(Object *self)
{
    return PyType_GetModuleState(Py_TYPE((PyObject *)self));
}

/* ---- methods ---- */

static int is_array(const Py_buffer *view, Py_ssize_t count, const char *codes)
{
    const char *format = view->format && view->format[0] == '=' ? view->format + 1 : view->format;
    return view->len == 4 * count && view->itemsize == 4 && format && format[0] && !format[1] &&
           strchr(codes, format[0]);
}

static PyObject *refuse_array(Object *self, const char *dtype)
{
    PyErr_Clear();
    return PyErr_Format(state_of(self)->tensor_error,
                        "the entropy coder takes %zd values of %s in C order; convert the array first",
                        self->coder.count, dtype);
}

static PyObject *payload_of(Coder *coder)
{
    uint8_t *end = coder->payload + 4 * coder->count + SPARE, *first = put(coder, end);
    return PyBytes_FromStringAndSize((char *)first, end - first);
}

static PyObject *encode_with(PyObject *object, PyObject *array, int is_float)
{
    Object *self = (Object *)object;
    Py_buffer view;
    PyObject *payload;
    if (PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return refuse_array(self, is_float ? "float32" : "int32");
    if (is_array(&view, self->coder.count, is_float ? "f" : "il")) {
        if (is_float)
            quantise(&self->coder, view.buf);
        else
            clip(&self->coder, view.buf);
        payload = payload_of(&self->coder);
    } else {
        payload = refuse_array(self, is_float ? "float32" : "int32");
    }
    PyBuffer_Release(&view);
    return payload;
}

static PyObject *encode(PyObject *self, PyObject *array)
{
    return encode_with(self, array, 1);
}

static PyObject *encode_values(PyObject *self, PyObject *array)
{
    return encode_with(self, array, 0);
}

static int refuse_payload(Object *self, Py_ssize_t length, Py_ssize_t held)
{
    PyObject *error = state_of(self)->decode_error;
    if (held < self->coder.count)
        PyErr_Format(error, "the payload of %zd bytes ends before value %zd of %zd; it is cut off or of other tables",
                     length, held + 1, self->coder.count);
    else
        PyErr_Format(error,
                     "the payload of %zd bytes does not end in the checksum of its %zd values; "
                     "it is damaged or of other tables",
                     length, self->coder.count);
    return -1;
}

static int decode_into(Object *self, const Py_buffer *payload, void *values, int is_float)
{
    Coder *coder = &self->coder;
    Source source = {0, payload->buf, (const uint8_t *)payload->buf + payload->len};
    ptrdiff_t held = coder->count;
    if (payload->len <= 4 * coder->count + SPARE && !(payload->len && *source.next == 0))
        held = take(coder, &source);
    if (held < coder->count || source.next != source.end ||
        source.state != START + checksum(coder->levels, coder->count))
        return refuse_payload(self, payload->len, held);
    if (is_float)
        reconstruct(coder, values);
    else
        widen(coder, values);
    return 0;
}

/* Contiguous bytes of any bytes-like object, copied when they are strided. */
static int bytes_of(PyObject *data, Py_buffer *view)
{
    if (PyObject_GetBuffer(data, view, PyBUF_SIMPLE) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_BufferError))
        return -1;
    PyErr_Clear();
    PyObject *copy = PyBytes_FromObject(data);
    int status = copy ? PyObject_GetBuffer(copy, view, PyBUF_SIMPLE) : -1;
    Py_XDECREF(copy);
    return status;
}

static PyObject *decode_with(PyObject *object, PyObject *data, int is_float)
{
    Object *self = (Object *)object;
    Py_buffer payload, values;
    if (bytes_of(data, &payload) < 0)
        return NULL;
    int status = -1;
    PyObject *array = PyObject_CallObject(state_of(self)->empty, is_float ? self->float_args : self->int_args);
    if (array && PyObject_GetBuffer(array, &values, PyBUF_WRITABLE) == 0) {
        status = decode_into(self, &payload, values.buf, is_float);
        PyBuffer_Release(&values);
    }
    PyBuffer_Release(&payload);
    if (status < 0)
        Py_CLEAR(array);
    return array;
}

static PyObject *decode(PyObject *self, PyObject *data)
{
    return decode_with(self, data, 1);
}

static PyObject *decode_values(PyObject *self, PyObject *data)
{
    return decode_with(self, data, 0);
}

/* ---- construction ---- */

static int set_up(Object *self, const Arguments *given, const State *state)
{
    if (build(&self->coder, given) < 0)
        return -1;
    self->float_args = Py_BuildValue("(nO)", self->coder.count, state->float32);
    self->int_args = Py_BuildValue("(nO)", self->coder.count, state->int32);
    return self->float_args && self->int_args ? 0 : -1;
}

static PyObject *create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const State *state = PyType_GetModuleState(type);
    if (!state)
        return NULL;
    Arguments given = {.config_error = state->config_error};
    PyObject *self = NULL;
    if (kwargs && PyDict_Size(kwargs))
        PyErr_SetString(PyExc_TypeError, "Coder takes no keywords");
    else if (hold(&given, args) == 0)
        self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self && set_up((Object *)self, &given, state) < 0)
        Py_CLEAR(self);
    while (given.held > 0)
        PyBuffer_Release(&given.views[--given.held]);
    return self;
}

static void destroy(PyObject *object)
{
    Object *self = (Object *)object;
    demolish(&self->coder);
    Py_XDECREF(self->float_args);
    Py_XDECREF(self->int_args);
    PyTypeObject *type = Py_TYPE(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF((PyObject *)type);
}

/* ---- module ---- */

static PyMethodDef METHODS[] = {
    {"encode", encode, METH_O, "float32[n] to bytes"},
    {"decode", decode, METH_O, "bytes to float32[n]"},
    {"encode_values", encode_values, METH_O, "int32[n] to bytes"},
    {"decode_values", decode_values, METH_O, "bytes to int32[n]"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {{Py_tp_new, create},
                              {Py_tp_dealloc, destroy},
                              {Py_tp_methods, METHODS},
                              {Py_tp_doc, "rans_python.Coder in C."},
                              {0, NULL}};

static PyType_Spec SPEC = {
    .name = "schemas.codecs._rans.Coder", .basicsize = sizeof(Object), .flags = Py_TPFLAGS_DEFAULT, .slots = SLOTS};

static PyObject *attribute(const char *module, const char *name)
{
    PyObject *loaded = PyImport_ImportModule(module);
    PyObject *found = loaded ? PyObject_GetAttrString(loaded, name) : NULL;
    Py_XDECREF(loaded);
    return found;
}

static int fill(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (!(state->config_error = attribute("schemas.errors", "ConfigError")) ||
        !(state->decode_error = attribute("schemas.errors", "DecodeError")) ||
        !(state->tensor_error = attribute("schemas.errors", "TensorError")) ||
        !(state->empty = attribute("numpy", "empty")) || !(state->float32 = attribute("numpy", "float32")) ||
        !(state->int32 = attribute("numpy", "int32")))
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &SPEC, NULL);
    int status = type ? PyModule_AddObjectRef(module, "Coder", type) : -1;
    Py_XDECREF(type);
    return status;
}

static int clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->config_error);
    Py_CLEAR(state->decode_error);
    Py_CLEAR(state->tensor_error);
    Py_CLEAR(state->empty);
    Py_CLEAR(state->float32);
    Py_CLEAR(state->int32);
    return 0;
}

static void release(void *module)
{
    clear(module);
}

static PyModuleDef_Slot PHASES[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef MODULE = {.m_base = PyModuleDef_HEAD_INIT,
                                    .m_name = "_rans",
                                    .m_doc = "The entropy coder in C.",
                                    .m_size = sizeof(State),
                                    .m_slots = PHASES,
                                    .m_clear = clear,
                                    .m_free = release};

PyMODINIT_FUNC PyInit__rans(void)
{
    return PyModuleDef_Init(&MODULE);
}
