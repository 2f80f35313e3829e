# The client in Perl: perl.pl URL prints the answer.
use strict;
use warnings;
use HTTP::Tiny;

my $answer = HTTP::Tiny->new->get($ARGV[0]);
die "$answer->{status} $answer->{reason}: $answer->{content}" unless $answer->{success};
print $answer->{content};
