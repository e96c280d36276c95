require "msgpack"
require_relative "greeting/word"
class Greeting
  def text = MessagePack.unpack(Word::HELLO.to_msgpack)
end
