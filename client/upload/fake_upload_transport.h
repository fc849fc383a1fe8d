// A server's end of an upload stream that writes down what it is sent, for tests.
#ifndef HOLDFAST_CLIENT_UPLOAD_FAKE_UPLOAD_TRANSPORT_H_
#define HOLDFAST_CLIENT_UPLOAD_FAKE_UPLOAD_TRANSPORT_H_

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client/upload/upload_transport.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/record.h"

namespace holdfast {

class FakeUploadTransport : public UploadTransport {
 public:
  absl::Status SendHave(absl::Span<const ChunkId> ids) override {
    RETURN_IF_ERROR(send_status);
    questions.emplace_back(ids.begin(), ids.end());
    UploadAnswer answer;
    for (const ChunkId& id : ids) answer.have.push_back(stored.contains(id) ? '\1' : '\0');
    if (short_answers) answer.have.pop_back();
    answers.push_back(std::move(answer));
    return absl::OkStatus();
  }
  std::unique_ptr<RecordBuffer> NewBuffer(size_t capacity) override { return std::make_unique<Buffer>(capacity); }
  absl::Status SendRecords(std::unique_ptr<RecordBuffer> buffer, size_t bytes) override {
    RETURN_IF_ERROR(send_status);
    std::string_view rest(buffer->data(), bytes);
    ++messages;
    while (!rest.empty()) {
      ASSIGN_OR_RETURN(size_t size, RecordHeaderSize(rest.substr(0, kRecordHeaderFixedBytes)));
      ASSIGN_OR_RETURN(RecordHeader header, DecodeRecordHeader(rest.substr(0, size)));
      size += header.sealed_length;
      stored.insert(header.id);
      sent.push_back(header);
      records.emplace_back(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    UploadAnswer answer;
    answer.appended_bytes = short_answers ? bytes - 1 : bytes;
    held += buffer->capacity();
    held_max = std::max(held_max, held);
    held_of.push_back(buffer->capacity());
    answers.push_back(std::move(answer));
    return absl::OkStatus();
  }
  absl::StatusOr<UploadAnswer> Receive() override {
    if (answers.empty()) return absl::InternalError("nothing is unanswered");
    UploadAnswer answer = std::move(answers.front());
    answers.pop_front();
    if (answer.appended_bytes > 0) {
      held -= held_of.front();
      held_of.pop_front();
    }
    return answer;
  }
  uint64_t credit_bytes() const override { return credit; }

  std::set<ChunkId> stored;
  std::vector<std::vector<ChunkId>> questions;
  std::vector<RecordHeader> sent;
  std::vector<std::string> records;
  int messages = 0;
  uint64_t credit = 12u << 20;
  uint64_t held = 0, held_max = 0;  // capacity of unanswered messages
  std::deque<UploadAnswer> answers;
  bool short_answers = false;
  absl::Status send_status;

 private:
  class Buffer : public RecordBuffer {
   public:
    explicit Buffer(size_t capacity) : bytes_(capacity, '\0') {}
    char* data() override { return bytes_.data(); }
    size_t capacity() const override { return bytes_.size(); }

   private:
    std::string bytes_;
  };
  std::deque<uint64_t> held_of;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_UPLOAD_FAKE_UPLOAD_TRANSPORT_H_
