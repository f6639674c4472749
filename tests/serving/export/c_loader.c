/* Loads a SavedModel with TensorFlow's C++ loader and runs serving_default for one user.

   usage: c_loader VERSION_DIR OUTPUT_OPERATION OUTPUT_INDEX < ids

   Standard input has four lines, each a count and that many ids: hist_item_id, hist_category_id,
   cand_item_id, cand_category_id. Prints one probability a candidate. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <tensorflow/c/c_api.h>

static const char* const kInputs[] = {
    "serving_default_hist_item_id", "serving_default_hist_category_id",
    "serving_default_cand_item_id", "serving_default_cand_category_id"};
enum { kInputCount = 4 };

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

static TF_Tensor* read_ids(void) {
  int count;
  if (scanf("%d", &count) != 1) exit(2);
  int64_t shape[] = {1, count};
  TF_Tensor* ids = TF_AllocateTensor(TF_INT32, shape, 2, count * sizeof(int32_t));
  for (int i = 0; i < count; ++i) {
    if (scanf("%d", (int32_t*)TF_TensorData(ids) + i) != 1) exit(2);
  }
  return ids;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(TF_NewSessionOptions(), NULL, argv[1], tags,
                                                     1, graph, NULL, status);
  check(status, "load");
  TF_Output inputs[kInputCount];
  TF_Tensor* values[kInputCount];
  for (int i = 0; i < kInputCount; ++i) {
    inputs[i] = (TF_Output){TF_GraphOperationByName(graph, kInputs[i]), 0};
    values[i] = read_ids();
  }
  TF_Output output = {TF_GraphOperationByName(graph, argv[2]), atoi(argv[3])};
  TF_Tensor* result = NULL;
  TF_SessionRun(session, NULL, inputs, values, kInputCount, &output, &result, 1, NULL, 0, NULL,
                status);
  check(status, "run");
  const float* probabilities = TF_TensorData(result);
  for (int64_t i = 0; i < TF_Dim(result, 1); ++i) printf("%.9g\n", probabilities[i]);
  return 0;
}
