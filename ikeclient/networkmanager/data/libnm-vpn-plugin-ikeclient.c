/* What `nmcli connection import type ikeclient file FILE` loads: a VPN editor plugin of libnm's without an editor.
 *
 * It runs `ikeclient-networkmanager --keyfile FILE` and hands what that prints to libnm's own reader. It is loaded into
 * programs that have libnm, GObject and GLib, so it links with none of them, and needs no headers of theirs:
 *
 *     cc -shared -fPIC -O2 -o libnm-vpn-plugin-ikeclient.so libnm-vpn-plugin-ikeclient.c
 *
 * What is declared here is the stable interface of glib 2.0 and libnm 1.30.
 */
#include <stddef.h>
#include <sys/wait.h>

#ifndef PROGRAM
#define PROGRAM "ikeclient-networkmanager"
#endif

typedef size_t GType;
typedef unsigned int guint;
typedef struct GError GError;
typedef struct GKeyFile GKeyFile;
typedef struct GValue GValue;
typedef struct GParamSpec GParamSpec;
typedef struct GObject GObject;
typedef struct NMConnection NMConnection;
typedef struct {
    GType type;
    const char *name;
    guint class_size, instance_size;
} GTypeQuery;
typedef struct { /* the beginning of GObjectClass */
    GType type;
    void *construct_properties, *constructor;
    void (*set_property)(GObject *, guint, const GValue *, GParamSpec *);
    void (*get_property)(GObject *, guint, GValue *, GParamSpec *);
} ObjectClass;
typedef struct { /* NMVpnEditorPluginInterface */
    GType type, instance_type;
    void *(*get_editor)(GObject *, NMConnection *, GError **);
    int (*get_capabilities)(GObject *);
    NMConnection *(*import_from_file)(GObject *, const char *, GError **);
    int (*export_to_file)(GObject *, const char *, NMConnection *, GError **);
    char *(*get_suggested_filename)(GObject *, NMConnection *);
    void *notify_plugin_info_set, *get_vt;
} EditorPlugin;
typedef struct {
    void (*init)(EditorPlugin *, void *);
    void *finalize, *data;
} GInterfaceInfo;

enum { G_TYPE_OBJECT = 20 << 2, G_SPAWN_SEARCH_PATH = 1 << 2 };
enum { NAME = 1, DESCRIPTION, SERVICE };
enum { IMPORT = 1, IPV6 = 4 }; /* NMVpnEditorPluginCapability */

void g_type_query(GType, GTypeQuery *);
GType g_type_register_static_simple(GType, const char *, guint, void (*)(ObjectClass *, void *), guint, void *, int);
void g_type_add_interface_static(GType, GType, const GInterfaceInfo *);
GObject *g_object_new(GType, const char *, ...);
void g_object_class_override_property(ObjectClass *, guint, const char *);
void g_value_set_string(GValue *, const char *);
unsigned g_quark_from_static_string(const char *);
void g_set_error_literal(GError **, unsigned, int, const char *);
int g_spawn_sync(const char *, char **, char **, int, void *, void *, char **, char **, int *, GError **);
void g_printerr(const char *, ...);
void g_free(void *);
GKeyFile *g_key_file_new(void);
int g_key_file_load_from_data(GKeyFile *, const char *, size_t, int, GError **);
void g_key_file_unref(GKeyFile *);
GType nm_vpn_editor_plugin_get_type(void);
NMConnection *nm_keyfile_read(GKeyFile *, const char *, int, void *, void *, GError **);

static void fail(GError **error, const char *text)
{
    g_set_error_literal(error, g_quark_from_static_string("ikeclient"), 0, text);
}

static NMConnection *import_from_file(GObject *plugin, const char *path, GError **error)
{
    char *argv[] = {(char *)PROGRAM, (char *)"--keyfile", (char *)path, NULL};
    char *out = NULL, *err = NULL;
    int status = 0;
    GKeyFile *file;
    NMConnection *connection = NULL;
    (void)plugin;
    if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, error))
        return NULL;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fail(error, err && *err ? err : PROGRAM " failed");
    } else {
        if (err && *err)
            g_printerr("%s", err);
        file = g_key_file_new();
        if (g_key_file_load_from_data(file, out, (size_t)-1, 0, error))
            connection = nm_keyfile_read(file, "/", 0, NULL, NULL, error);
        g_key_file_unref(file);
    }
    g_free(out);
    g_free(err);
    return connection;
}

static int get_capabilities(GObject *plugin)
{
    (void)plugin;
    return IMPORT | IPV6;
}

static void *get_editor(GObject *plugin, NMConnection *connection, GError **error)
{
    (void)plugin;
    (void)connection;
    fail(error, "connections of ikeclient have no editor: see nmcli connection edit");
    return NULL;
}

static void get_property(GObject *object, guint id, GValue *value, GParamSpec *spec)
{
    (void)object;
    (void)spec;
    g_value_set_string(value, id == NAME          ? "IKEv2 (ikeclient)"
                              : id == DESCRIPTION ? "IKEv2 gateways, with ikeclient"
                                                  : "org.freedesktop.NetworkManager.ikeclient");
}

static void init_class(ObjectClass *class, void *data)
{
    (void)data;
    class->get_property = get_property;
    g_object_class_override_property(class, NAME, "name");
    g_object_class_override_property(class, DESCRIPTION, "description");
    g_object_class_override_property(class, SERVICE, "service");
}

static void init_interface(EditorPlugin *interface, void *data)
{
    (void)data;
    interface->get_editor = get_editor;
    interface->get_capabilities = get_capabilities;
    interface->import_from_file = import_from_file;
}

__attribute__((visibility("default"))) GObject *nm_vpn_editor_plugin_factory(GError **error)
{
    static const GInterfaceInfo info = {init_interface, NULL, NULL};
    static GType type;
    GTypeQuery parent;
    (void)error;
    if (!type) {
        g_type_query(G_TYPE_OBJECT, &parent);
        type = g_type_register_static_simple(G_TYPE_OBJECT, "IkeclientEditorPlugin", parent.class_size, init_class,
                                             parent.instance_size, NULL, 0);
        g_type_add_interface_static(type, nm_vpn_editor_plugin_get_type(), &info);
    }
    return g_object_new(type, NULL);
}
