from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.paginator import Paginator
from django.db.models import F, Q
from django.http import JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse_lazy
from django.views.decorators.http import require_POST
from django.views.generic import CreateView, DeleteView, DetailView, FormView, ListView, UpdateView, View

from .forms import ArticleForm, ContactForm, JoinForm
from .models import Article, Credit, Tag


class ArticleList(ListView):
    queryset = Article.published.all()
    context_object_name = "articles"
    paginate_by = 3
    template_name = "press/list.html"

    def get_context_data(self, **kwargs):
        context = super().get_context_data(**kwargs)
        context["tags"] = Tag.objects.with_counts()
        return context


class ArticleDetail(DetailView):
    model = Article

    def get_queryset(self):
        return Article.objects.published()


class ArticleCreate(LoginRequiredMixin, CreateView):
    model = Article
    form_class = ArticleForm

    def form_valid(self, form):
        response = super().form_valid(form)
        Credit.objects.create(article=self.object, author=self.request.user)
        messages.success(self.request, "Saved.")
        return response


class ArticleUpdate(LoginRequiredMixin, UpdateView):
    model = Article
    fields = ["title", "body"]

    def get_queryset(self):
        return Article.objects.by(self.request.user)


class ArticleDelete(DeleteView):
    model = Article
    success_url = reverse_lazy("press:list")


class Contact(FormView):
    template_name = "press/contact.html"
    form_class = ContactForm
    success_url = "/press/"

    def form_valid(self, form):
        form.send_email()
        return super().form_valid(form)


class Join(CreateView):
    form_class = JoinForm
    success_url = reverse_lazy("press:list")
    template_name = "press/join.html"


class Api(View):
    def get(self, request):
        query = request.GET.get("q", "")
        found = Article.objects.filter(Q(title__icontains=query) | Q(body__icontains=query))
        page = Paginator(found, 10).get_page(request.GET.get("page"))
        return JsonResponse({"articles": [a.title for a in page]})


@login_required
@require_POST
def publish(request, slug):
    article = get_object_or_404(Article, slug=slug)
    article.publish = F("created_at")
    article.status = Article.Status.PUBLISHED
    article.save()
    return redirect(article)
