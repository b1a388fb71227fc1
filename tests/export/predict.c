/* Runs one signature of a SavedModel with the C API of TensorFlow, without Python.

   predict FOLDER OUTPUT INPUT < TEXTS

   INPUT and OUTPUT name tensors, as "serving_default_text:0". TEXTS are separated by NUL
   bytes, each of which ends one. Prints a line for each element of the output.        */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  TF_Output output;
  *colon = '\0';
  output.oper = TF_GraphOperationByName(graph, name);
  output.index = atoi(colon + 1);
  if (output.oper == NULL) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

static void free_tensor(void *data, size_t length, void *argument) {
  (void)length;
  (void)argument;
  free(data);
}

static TF_Tensor *read_texts(void) {
  size_t room = 1 << 16, used = 0, got;
  char *bytes = malloc(room);
  while ((got = fread(bytes + used, 1, room - used, stdin)) > 0) {
    used += got;
    if (used == room) bytes = realloc(bytes, room *= 2);
  }
  int64_t count = 0;
  for (size_t at = 0; at < used; at++) count += bytes[at] == '\0';
  TF_TString *strings = calloc(count ? count : 1, sizeof(TF_TString));
  char *begin = bytes;
  for (int64_t row = 0; row < count; row++) {
    TF_TString_Init(&strings[row]);
    TF_TString_Copy(&strings[row], begin, strlen(begin));
    begin += strlen(begin) + 1;
  }
  free(bytes);
  return TF_NewTensor(TF_STRING, &count, 1, strings, count * sizeof(TF_TString),
                      free_tensor, NULL);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1,
                                                     graph, NULL, status);
  check(status, "loading");
  TF_Output output = find(graph, argv[2]), input = find(graph, argv[3]);
  TF_Tensor *texts = read_texts(), *found = NULL;
  TF_SessionRun(session, NULL, &input, &texts, 1, &output, &found, 1, NULL, 0, NULL,
                status);
  check(status, "running");
  int64_t count = TF_TensorElementCount(found);
  for (int64_t at = 0; at < count; at++) {
    if (TF_TensorType(found) == TF_FLOAT)
      printf("%.9g\n", ((float *)TF_TensorData(found))[at]);
    else if (TF_TensorType(found) == TF_INT32)
      printf("%d\n", ((int32_t *)TF_TensorData(found))[at]);
    else {
      const TF_TString *text = (const TF_TString *)TF_TensorData(found) + at;
      fwrite(TF_TString_GetDataPointer(text), 1, TF_TString_GetSize(text), stdout);
      printf("\n");
    }
  }
  TF_DeleteTensor(found);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  return 0;
}
