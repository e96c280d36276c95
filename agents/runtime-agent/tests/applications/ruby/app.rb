# The application under test. With TRUTH it also writes what Ruby says that it has loaded.
TELL = lambda do
  File.open(ENV["TRUTH"], "a") { |file| file.puts($LOADED_FEATURES) } if ENV["TRUTH"]
end
at_exit(&TELL)
home = ENV.fetch("GEM_HOME")

require "sinatra/base" # brings rack, rack-protection, mustermann, tilt, ruby2_keywords
require "rack/mock"
require "i18n" # brings concurrent-ruby
require "multi_json"
require "bcrypt" # a shared object
gem "rainbow"
require "rainbow"

class Service < Sinatra::Base
  set :environment, :production
  get("/") { erb "<%= 1 + 1 %>" }
end

# Never loaded: read as data, asked for as metadata, listed, stat'ed.
File.read(File.join(home, "specifications/rouge-3.30.0.gemspec"))
Gem::Specification.find_by_name("tzinfo").summary
Dir.children(File.join(home, "gems/hashie-5.0.0/lib"))
File.stat(File.join(home, "gems/builder-3.2.4/lib/builder.rb"))

answer = Rack::MockRequest.new(Service.new).get("/").body
Thread.new { require "addressable/uri" }.join # late, on a thread
child = fork do
  require "mime/types" # in a process that leaves without a word
  TELL.call
  exit!
end
Process.wait(child)
other = "gem 'rainbow', '2.9.9'; require 'rainbow'; at_exit { File.write(ENV['TRUTH'], $LOADED_FEATURES.join(%(\n)) << %(\n), mode: 'a') if ENV['TRUTH'] }"
system(RbConfig.ruby, "-e", other, exception: true)
load File.join(__dir__, "plugin.rb")
puts "#{answer} #{Rainbow::VERSION rescue 'rainbow'} #{defined?(Addressable::URI)}"
